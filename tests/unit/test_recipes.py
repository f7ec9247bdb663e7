"""Every recipe: valid, sourced, honest in its probe, and accepted by the catalogue with a file of its image."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from samples import VARIABLES, Write

from understudy import recipe_book, render
from understudy.catalog import Catalog
from understudy.images import parse
from understudy.service import Service
from understudy.settings import settings_of
from understudy.spec import Recipe

Load = Callable[..., Catalog]
ALL = recipe_book.all_recipes()
# Words of the proxy's own pages and of every error page: a probe satisfied by them proves nothing.
SAID_BY_ANYBODY = ("No service has this name here.", "Not Found", "Bad Gateway", "<html", "404")
OWN_WORD = ("ghcr.io/", "lscr.io/", "quay.io/", "docker.io/")


def every(items: Any = ALL) -> Any:
    return pytest.mark.parametrize("name", sorted(items))


def below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def places(recipe: Recipe) -> list[str]:
    """The folders of the container that the recipe speaks of, widest first, none inside another."""
    files = [d.sqlite.partition(":")[2] for d in recipe.databases if d.sqlite]
    wanted = [posixpath.dirname(path) for path in files]
    wanted += [key.partition(":")[2].split("*")[0].rstrip("/") for key in recipe.data]
    wanted = [path if "*" not in path else posixpath.dirname(path) for path in wanted]
    found: list[str] = []
    for path in sorted(set(wanted), key=len):
        if not any(below(path, known) for known in found):
            found.append(path)
    return found or ["/data"]


def compose_file(recipe: Recipe, image: str, environment: dict[str, str] | None = None) -> str:
    port = recipe.probe.to.rpartition(":")[2] if recipe.probe and recipe.probe.to else "80"
    service: dict[str, Any] = {
        "image": f"{image}:1.2.3",
        "ports": [f"127.0.0.1:8100:{port}"],
        "volumes": [f"./part{number}:{path}" for number, path in enumerate(places(recipe))],
        "environment": environment or {},
    }
    return yaml.safe_dump({"services": {"app": service}})


def read(
    write: Write, load: Load, recipe: Recipe, image: str, environment: dict[str, str] | None = None
) -> Service:
    write("app/compose.yaml", compose_file(recipe, image, environment))
    return load().services["app"]


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 46


@every()
def test_it_is_chosen_by_each_of_its_images(name: str) -> None:
    for image in ALL[name].images:
        assert recipe_book.for_image(f"{image}:1.2.3") is ALL[name]
        assert parse(f"{image}:1").name == image, "write the name as it is compared"


def test_no_image_has_two() -> None:
    images = [image for recipe in ALL.values() for image in recipe.images]
    assert len(images) == len(set(images))


@every()
def test_it_says_why_and_from_where(name: str) -> None:
    recipe = ALL[name]
    assert recipe.why and len(recipe.why) > 15
    assert recipe.source and all(url.startswith("https://") and " " not in url for url in recipe.source)
    assert recipe.version.rule


def test_sixty_and_those_of_the_catalogue_were_compared_with_their_source() -> None:
    dates = {name: recipe.checked for name, recipe in ALL.items() if recipe.checked}
    assert len(dates) >= 60 and max(dates.values()) <= date.today()
    containers = [
        container
        for path in Path(__file__).parents[2].glob("services/*/compose.yaml")
        for container in yaml.safe_load(path.read_text())["services"].values()
    ]
    used = {id(recipe_book.for_image(one["image"])) for one in containers if "image" in one}
    names = {name for name, recipe in ALL.items() if id(recipe) in used}
    assert len(names) > 10 and names <= dates.keys()


@every({name for name, recipe in ALL.items() if recipe.probe})
def test_its_probe_looks_at_the_content(name: str) -> None:
    probe = ALL[name].probe
    assert probe and probe.to and probe.to.startswith("{self}:")
    assert probe.text or probe.json_ or probe.content_type
    assert 421 not in probe.status and 404 not in probe.status
    assert probe.text not in SAID_BY_ANYBODY
    if probe.content_type == "text/html":
        assert probe.text, "every page is HTML"


@every()
def test_paths_are_absolute_and_clean(name: str) -> None:
    recipe = ALL[name]
    keys = [*recipe.data, *(d.sqlite for d in recipe.databases if d.sqlite)]
    for key in keys:
        assert key.startswith("{self}:/") and posixpath.normpath(key[7:]) == key[7:]


@every()
def test_the_catalogue_takes_a_file_of_its_image(name: str, write: Write, load: Load) -> None:
    recipe = ALL[name]
    service = read(write, load, recipe, recipe.images[0])
    assert service.recipes == {"app": recipe}
    assert service.version_rule() == recipe.version
    assert (service.probe() is None) == (recipe.probe is None)
    assert len(service.databases()) == len(recipe.databases)


@every()
def test_the_protection_plan_can_be_written_from_it(name: str, write: Write, load: Load) -> None:
    import json

    recipe = ALL[name]
    read(write, load, recipe, recipe.images[0])
    backup = {"repositories": {"offsite": {"url": "/srv/backups"}}, "host_paths": []}
    settings = settings_of("box", {"domain": VARIABLES["DOMAIN"], "backup": backup, "parts": ["backup"]})
    desired = render.desired(load(), settings, {"backup": {"OFFSITE_PASSWORD": "p"}})
    plan = json.loads(desired.tree.entries["/etc/understudy/backup.json"].content)["services"]
    rules = [rule for key, rule in recipe.data.items()]
    all_left_out = not recipe.databases and len(places(recipe)) == len(rules)
    assert "app" in plan or all_left_out, "its data is in no backup"


CHOSEN = {n: r for n, r in ALL.items() if any(d.unless_env for d in r.databases)}


@every(CHOSEN)
def test_another_database_that_is_configured_takes_the_file_out(name: str, write: Write, load: Load) -> None:
    recipe = CHOSEN[name]
    variable = next(d.unless_env[0] for d in recipe.databases if d.unless_env)
    service = read(write, load, recipe, recipe.images[0], {variable: "postgres"})
    assert not [d for d in service.databases() if d.sqlite]
    again = read(write, load, recipe, recipe.images[0], {variable: "sqlite3"})
    assert [d for d in again.databases() if d.sqlite]


def test_an_optional_file_in_no_volume_is_no_fault(write: Write, load: Load) -> None:
    write(
        "app/compose.yaml",
        "services:\n  app:\n    image: vikunja/vikunja:1.0.0\n    ports: ['127.0.0.1:81:3456']\n",
    )
    assert load().services["app"].databases() == []


def test_a_port_that_is_not_published_leaves_the_recipe_s_probe_out(write: Write, load: Load) -> None:
    write(
        "app/compose.yaml",
        "services:\n  app:\n    image: gotify/server:2.6.1\n    volumes: [./data:/app/data]\n",
    )
    assert load().services["app"].probe() is None


def test_the_block_overrides_the_recipe(write: Write, load: Load) -> None:
    recipe = ALL["gotify"]
    write("app/compose.yaml", compose_file(recipe, "gotify/server"))
    write(
        "app/understudy.yaml",
        'databases: [{sqlite: "app:/app/data/other.db"}]\ndata: {"app:/app/data/images": cache}\n',
    )
    service = load().services["app"]
    assert [d.sqlite for d in service.databases()] == ["app:/app/data/other.db"]
    assert service.data_rules()["app:/app/data/images"].class_ == "cache"
