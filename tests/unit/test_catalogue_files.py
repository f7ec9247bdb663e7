"""The catalogue that is shipped: pinned, closed, complete, and honest in its probes."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from understudy import recipe_book
from understudy.catalog import Catalog, Source, load_catalog
from understudy.compose import references
from understudy.images import parse
from understudy.service import Service
from understudy.spec import Probe

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"
COMPOSE = sorted(SERVICES.glob("*/compose.yaml"))
NAMES = sorted(path.name for path in SERVICES.iterdir())
INVENTORY_VARIABLES = {"DOMAIN": "example.org", "TZ": "Etc/UTC"}
PROXY_FALLBACK = b"No service has this name here."
WORDS_OF_SECRETS = re.compile(r"PASSW|SECRET|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)


@cache
def catalog(overlays: tuple[Path, ...] = ()) -> Catalog:
    return load_catalog(Source(SERVICES, overlays, INVENTORY_VARIABLES), strict=True)


def documents() -> list[Any]:
    return [pytest.param(yaml.safe_load(path.read_text()), id=path.parent.name) for path in COMPOSE]


def containers() -> list[Any]:
    return [
        pytest.param(path.parent.name, name, spec, id=f"{path.parent.name}/{name}")
        for path in COMPOSE
        for name, spec in yaml.safe_load(path.read_text())["services"].items()
    ]


def every_probe() -> list[Any]:
    found: list[tuple[str, Probe]] = []
    for service in catalog():
        found += [(service.name, probe) for probe in [service.probe()] if probe]
        found += [(f"{service.name}-{route.host[0]}", route.probe) for route in service.routes if route.probe]
    return [pytest.param(probe, id=f"{name}-{number}") for number, (name, probe) in enumerate(found)]


def test_the_whole_catalogue_passes_the_strict_check() -> None:
    assert catalog().warnings == []
    assert sorted(catalog().services) == NAMES


def test_the_lab_s_overlays_pass_it_too() -> None:
    assert sorted(catalog((ROOT / "lab/overlay",)).services) == NAMES


def test_every_service_and_hostname_of_the_owner_is_there() -> None:
    assert {
        "bookmarks", "caddy", "cloudflared", "goatcounter", "gokapi", "homepage", "jellyfin", "kitchenowl", "nextcloud",
        "planning-poker", "portainer", "travelsync", "uptime-kuma", "vaultwarden",
    } <= set(catalog().services)  # fmt: skip
    hosts = {host for service in catalog() for route in service.routes for host in route.host}
    assert {
        "@", "www", "analytics", "bookmarks", "cloud", "files", "jellyfin", "poker", "shopping", "tickets", "travelsync", "vault",
    } <= hosts  # fmt: skip


def test_the_critical_group_is_the_owner_s() -> None:
    groups = {service.name: service.block.group for service in catalog()}
    assert {name for name, group in groups.items() if group == "critical"} == {"vaultwarden", "nextcloud"}
    assert {name for name, group in groups.items() if group == "host"} == {"caddy", "cloudflared"}


@pytest.mark.parametrize(("service", "name", "spec"), containers())
class TestContainer:
    def test_image_is_pinned(self, service: str, name: str, spec: dict[str, Any]) -> None:
        image = parse(spec["image"])
        assert not image.floating and re.search(r"\d", image.tag)

    def test_it_comes_back_after_a_boot(self, service: str, name: str, spec: dict[str, Any]) -> None:
        assert spec["restart"] == "unless-stopped"

    def test_memory_is_limited_and_processors_only_as_every_engine_accepts_it(
        self, service: str, name: str, spec: dict[str, Any]
    ) -> None:
        assert spec["mem_limit"]
        assert (
            "cpus" not in spec and "deploy" not in spec
        )  # refused where there is no cpu controller, or fewer processors
        assert ("cpu_quota" in spec) == ("cpu_period" in spec)

    def test_ports_are_on_loopback(self, service: str, name: str, spec: dict[str, Any]) -> None:
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in spec.get("ports", []))

    def test_no_value_that_is_a_secret(self, service: str, name: str, spec: dict[str, Any]) -> None:
        for variable, value in spec.get("environment", {}).items():
            if WORDS_OF_SECRETS.search(variable) and not variable.endswith("_PATH"):
                by_file = variable.endswith("_FILE") and value.startswith("/run/")
                assert by_file or re.fullmatch(r"\$\{[A-Z_]+(:-)?\}", value), variable

    def test_image_volumes_are_covered(self, service: str, name: str, spec: dict[str, Any]) -> None:
        """The lab's image definitions declare the volumes that the official ones do."""
        text = (ROOT / "lab/images" / dockerfile(spec["image"])).read_text()
        declared = set(re.findall(r"/[\w/.-]+", " ".join(re.findall(r"^VOLUME (.*)$", text, re.MULTILINE))))
        mounted = {entry.split(":")[1] for entry in spec.get("volumes", [])}
        assert declared <= mounted

    def test_volumes_have_names_or_paths(self, service: str, name: str, spec: dict[str, Any]) -> None:
        assert all(
            re.match(r"(\./|/|[a-z][a-z0-9-]*:)", entry) and ":" in entry for entry in spec.get("volumes", [])
        )

    def test_the_engine_s_socket_is_mounted_read_only(
        self, service: str, name: str, spec: dict[str, Any]
    ) -> None:
        assert all(entry.endswith(":ro") for entry in spec.get("volumes", []) if "docker.sock" in entry)

    def test_it_has_a_recipe(self, service: str, name: str, spec: dict[str, Any]) -> None:
        own = {"travelsync"}  # the owner's own program: true here and nowhere else
        assert recipe_book.for_image(spec["image"]) or parse(spec["image"]).name in own


@pytest.mark.parametrize("document", documents())
class TestComposeFile:
    def test_databases_are_waited_for_by_their_health(self, document: dict[str, Any]) -> None:
        services = document["services"]
        servers = {
            name
            for name, spec in services.items()
            if parse(spec["image"]).name in {"postgres", "mariadb", "redis"}
        }
        for server in servers:
            assert services[server]["healthcheck"]["test"]
            waiting = [
                name
                for name, spec in services.items()
                if spec.get("depends_on", {}).get(server) == {"condition": "service_healthy"}
            ]
            assert sorted(waiting) == sorted(services.keys() - servers)

    def test_named_volumes_are_declared(self, document: dict[str, Any]) -> None:
        used = {
            entry.split(":")[0] for spec in document["services"].values() for entry in spec.get("volumes", [])
        }
        assert {name for name in used if name[0] not in "./"} == set(document.get("volumes", {}))

    def test_no_jinja(self, document: dict[str, Any]) -> None:
        assert "{{" not in json.dumps(document) and "{%" not in json.dumps(document)


@pytest.mark.parametrize("path", COMPOSE, ids=[path.parent.name for path in COMPOSE])
class TestVariables:
    def test_the_example_names_exactly_what_the_file_uses(self, path: Path) -> None:
        lines = (path.parent / ".env.example").read_text().splitlines()
        given = {line.split("=")[0] for line in lines if line and not line.startswith("#")}
        assert given == set(references(yaml.safe_load(path.read_text())))

    def test_each_is_the_inventory_s_or_a_declared_secret(self, path: Path) -> None:
        block = catalog().services[path.parent.name].block
        others = set(references(yaml.safe_load(path.read_text()))) - set(INVENTORY_VARIABLES)
        assert others == set(block.secrets_env) and others <= set(block.secrets)

    def test_secret_files_are_declared_and_every_secret_is_used(self, path: Path) -> None:
        block = catalog().services[path.parent.name].block
        document = yaml.safe_load(path.read_text())
        files = {spec["file"] for spec in document.get("secrets", {}).values()}
        expected = {
            f"/etc/understudy/secrets/{path.parent.name}/{name}"
            for name in set(block.secrets) - set(block.secrets_env)
        }
        assert files == expected
        mounted = {label for spec in document["services"].values() for label in spec.get("secrets", [])}
        assert mounted == set(document.get("secrets", {}))


def test_passwords_are_made_not_invented() -> None:
    for service in catalog():
        for name, secret in service.secrets.items():
            assert secret.generate != "none" or secret.why, (
                f"{service.name}: {name} comes from somewhere else: say from where"
            )


def test_host_ports_are_the_owner_s() -> None:
    taken = {port.port: s.name for s in catalog() for c in s.containers.values() for port in c.ports}
    taken |= {port: s.name for s in catalog() if s.block.native for port in s.block.native.ports}
    expected = {
        8082: "vaultwarden", 8083: "vaultwarden", 8081: "nextcloud", 8000: "travelsync", 8092: "kitchenowl", 8091: "gokapi",
        8096: "jellyfin", 8088: "goatcounter", 3001: "uptime-kuma", 3002: "homepage", 9000: "portainer", 3000: "planning-poker",
        5000: "bookmarks",
    }  # fmt: skip
    assert expected.items() <= taken.items()


@pytest.mark.parametrize("probe", every_probe())
def test_no_probe_takes_the_proxy_s_own_answer_for_the_service(probe: Probe) -> None:
    assert probe.checks_content
    assert 421 not in probe.status and 502 not in probe.status
    assert not probe.text or probe.text.encode() not in PROXY_FALLBACK
    assert (
        probe.text or probe.json_ or probe.content_type
    )  # a method alone would not tell a page from an answer


def test_every_service_is_probed_and_every_route_too() -> None:
    for service in catalog():
        assert service.probe() or all(route.probe for route in service.routes), service.name
        assert service.probe() or service.routes, service.name


def test_defects_of_the_first_server_do_not_come_back() -> None:
    def environment(service: str, container: str) -> dict[str, str | None]:
        return dict(catalog().services[service].containers[container].environment)

    assert environment("vaultwarden", "vaultwarden")["SIGNUPS_ALLOWED"] == "false"
    assert "*" not in str(environment("homepage", "homepage")["HOMEPAGE_ALLOWED_HOSTS"])
    assert [d.sqlite for d in catalog().services["kitchenowl"].databases()] == [
        "kitchenowl:/data/database.db"
    ]
    assert not any(route.compression for service in catalog() for route in service.routes)
    assert routed(catalog().services["vaultwarden"]) == "nginx:80"
    assert "proxy_method $soft_delete_method" in (SERVICES / "vaultwarden/nginx/default.conf").read_text()
    cloud = catalog().services["nextcloud"].routes[0]
    assert cloud.forwarded_https and "Strict-Transport-Security" in cloud.response_headers
    assert catalog().services["planning-poker"].routes[0].host_header
    assert (
        catalog().services["wordpress"].routes == []
    )  # until its installer has run, it belongs to whoever comes first


def routed(service: Service) -> str:
    return service.routes[0].to


@pytest.mark.parametrize("name", sorted(recipe_book.all_recipes()))
def test_recipes_name_their_container_and_their_sources(name: str) -> None:
    recipe = recipe_book.all_recipes()[name]
    assert recipe.why and recipe.source and all(url.startswith("https://") for url in recipe.source)
    assert all(key.startswith("{self}:/") for key in recipe.data)
    assert all((database.sqlite or "{self}:/").startswith("{self}:/") for database in recipe.databases)
    assert not recipe.probe or str(recipe.probe.to).startswith("{self}:")
    for hooks in recipe.hooks.model_dump().values():
        assert all(hook["service"] == "{self}" for hook in hooks)


def test_hooks_of_nextcloud_reach_the_catalogue_s_container() -> None:
    recipe = recipe_book.for_image("nextcloud:30.0.17-apache")
    assert recipe and [hook.run[2] for hook in recipe.hooks.after_rollback] == [
        "files:scan",
        "maintenance:data-fingerprint",
    ]


def dockerfile(image: str) -> str:
    return image_definitions()[parse(image).name]


@cache
def image_definitions() -> dict[str, str]:
    entries = yaml.safe_load((ROOT / "lab/images/images.yaml").read_text())
    pairs = [
        (entry["match"] if isinstance(entry["match"], list) else [entry["match"]], entry["dockerfile"])
        for entry in entries
    ]
    return {name: file for names, file in pairs for name in names}


def test_the_lab_can_build_every_image() -> None:
    wanted = {dockerfile(image) for image in catalog().image_references()}
    listed = set(image_definitions().values())
    there = {path.name for path in (ROOT / "lab/images").glob("*.dockerfile")}
    assert listed == there and wanted <= there
    for name in there:
        text = (ROOT / "lab/images" / name).read_text()
        assert "ARG BASE\nFROM ${BASE}\n" in text
        for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
            assert all((ROOT / "lab" / source).exists() for source in line.split()[:-1]), line


def test_links_of_the_overlays_lead_to_the_stand_ins() -> None:
    links = [path for path in (ROOT / "lab/overlay").rglob("*") if path.is_symlink()]
    assert links and all(
        path.resolve().is_relative_to(ROOT / "lab/standins") and path.is_file() for path in links
    )


def test_renovate_proposes_and_never_merges() -> None:
    config = json.loads((ROOT / "renovate.json").read_text())
    assert "docker-compose" in config["enabledManagers"]
    assert config["automerge"] is False and not any(rule.get("automerge") for rule in config["packageRules"])
    assert re.search(
        config["docker-compose"]["managerFilePatterns"][0].strip("/"), "services/nextcloud/compose.yaml"
    )
