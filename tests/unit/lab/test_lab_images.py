"""Which images the lab builds, from what, and when it builds them again."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from lab import roots
from lab.images_build import (
    AppImage,
    bare_name,
    build_context,
    choose_definition,
    copied_sources,
    image_references,
    load_definitions,
    wanted_images,
)
from lab.store import fill_command, store_name
from understudy.errors import BadInput


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with one service and one image definition."""
    for folder in ("services/web", "lab/images/web", "lab/standins/web/__pycache__"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "services/web/compose.yaml").write_text("services: {app: {image: 'web/server:1.2'}}\n")
    (tmp_path / "lab/images/images.yaml").write_text("- {match: web/server, dockerfile: web/Dockerfile}\n")
    (tmp_path / "lab/images/web/Dockerfile").write_text(
        "ARG BASE\nFROM ${BASE}\nCOPY standins/web /opt/web\n"
    )
    (tmp_path / "lab/standins/web/app.py").write_text("print('hello')\n")
    (tmp_path / "lab/standins/web/__pycache__/app.pyc").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.29", "nginx"),
        ("docker.io/library/nginx:1.29", "nginx"),
        ("docker.io/vaultwarden/server:1.36", "vaultwarden/server"),
        ("ghcr.io/gethomepage/homepage:v1", "ghcr.io/gethomepage/homepage"),
        ("registry.local:5000/app:2", "registry.local:5000/app"),
        ("nginx:1.29@sha256:00", "nginx"),
    ],
)
def test_names_are_matched_without_tag_and_default_registry(reference: str, name: str) -> None:
    assert bare_name(reference) == name


def test_local_tag_keeps_the_owners_images_apart() -> None:
    assert AppImage("nginx:1.29", "", b"").tag == "understudy-lab/nginx:1.29"
    assert AppImage("registry.local:5000/a/b:2", "", b"").tag == "understudy-lab/registry.local/5000/a/b:2"


def test_references_are_collected_with_who_names_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/compose.yaml").write_text("services: {db: {image: 'postgres:17'}, built: {build: .}}\n")
    (tmp_path / "b/compose.yaml").write_text(
        "services: {db: {image: 'postgres:17'}, web: {image: 'nginx:1'}}\n"
    )
    (tmp_path / "b/compose.override.yaml").write_text("")
    found = image_references(tmp_path.glob("*/compose*.yaml"))
    assert found == {"postgres:17": "a/db", "nginx:1": "b/web"}


@pytest.mark.parametrize(
    ("reference", "part"),
    [
        ("unknown/app:1", "add unknown/app to lab/images/images.yaml"),
        ("nginx:1.29@sha256:00", "by digest"),
        ("nginx:${VERSION}", "plain name"),
    ],
)
def test_an_image_that_cannot_be_built_names_its_service(reference: str, part: str) -> None:
    with pytest.raises(BadInput, match=r"^web/app: ") as caught:
        choose_definition(reference, "web/app", {"nginx": "nginx/Dockerfile"})
    assert part in str(caught.value)
    assert caught.value.exit_code == 2


def test_one_definition_may_serve_several_names(tmp_path: Path) -> None:
    listing = tmp_path / "images.yaml"
    listing.write_text("- {match: [nginx, docker.io/bitnami/nginx], dockerfile: nginx/Dockerfile}\n")
    assert load_definitions(listing) == {"nginx": "nginx/Dockerfile", "bitnami/nginx": "nginx/Dockerfile"}


def test_copied_sources_skip_other_stages_and_destinations() -> None:
    text = "COPY --chown=1:1 a b/ \\\n  c /there/\nCOPY --from=build /x /y\nADD d /e\nRUN COPY nothing\n"
    assert copied_sources(text) == ["a", "b/", "c", "d"]


def test_context_holds_what_is_copied_and_nothing_else(clone: Path) -> None:
    (clone / "lab/standins/other.py").write_text("")
    with tarfile.open(fileobj=io.BytesIO(build_context(clone / "lab", "web/Dockerfile"))) as archive:
        assert archive.getnames() == ["Dockerfile", "standins/web/app.py"]


def test_key_changes_with_content_and_only_then(clone: Path) -> None:
    before = wanted_images(clone)[0].key
    assert wanted_images(clone)[0].key == before
    (clone / "lab/standins/web/app.py").write_text("print('other')\n")
    assert wanted_images(clone)[0].key != before


def test_key_changes_with_mode_and_name(clone: Path) -> None:
    image = wanted_images(clone)[0]
    (clone / "lab/standins/web/app.py").chmod(0o755)
    assert wanted_images(clone)[0].key != image.key
    assert replace(image, reference="web/server:1.3").key != image.key


def test_store_is_named_by_all_its_images(clone: Path) -> None:
    images = wanted_images(clone)
    other = [*images, replace(images[0], reference="web/server:1.3")]
    assert store_name(images) == store_name(list(images))
    assert store_name(images) != store_name(other)


def test_store_is_filled_without_network(clone: Path) -> None:
    command = fill_command("store-1", ["understudy-lab/web/server:1.2=web/server:1.2", "=old:1"])
    assert command[command.index("--network") + 1] == "none"
    assert command[-2:] == ["understudy-lab/web/server:1.2=web/server:1.2", "=old:1"]


def test_root_image_is_named_by_its_recipe(tmp_path: Path) -> None:
    (tmp_path / "packages.txt").write_text("curl\n")
    before = roots.recipe_hash([tmp_path], ["build"])
    assert roots.recipe_hash([tmp_path], ["build"]) == before
    assert roots.recipe_hash([tmp_path], ["build", "differently"]) != before
    (tmp_path / "packages.txt").write_text("curl\njq\n")
    assert roots.recipe_hash([tmp_path], ["build"]) != before


def test_both_ways_to_build_a_root_install_the_same_packages() -> None:
    for root in (roots.HOST, roots.APP_BASE):
        names = root.package_names()
        assert names
        assert f"--include={','.join(names)}" in roots.mmdebstrap_command(root, Path("/recipe"))
        assert f"--no-install-recommends {' '.join(names)}" in roots.registry_dockerfile(root)


def test_bare_host_has_no_docker_before_a_converge() -> None:
    bare = roots.HOST.package_names()
    pool = (roots.HERE / "host/pool.txt").read_text().split()
    assert not [name for name in bare if "docker" in name]
    assert {"docker.io", "docker-compose", "docker-cli", "nftables", "restic"} <= set(pool)
