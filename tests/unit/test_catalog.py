"""The catalogue: what is read, and that each wrong thing is named with file, line and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from samples import NOTES, NOTES_BLOCK, Write

from understudy.catalog import Catalog
from understudy.faults import CatalogError, Fault

Load = Callable[..., Catalog]


def faults(load: Load, strict: bool = False) -> list[Fault]:
    with pytest.raises(CatalogError) as caught:
        load(strict=strict)
    return caught.value.faults


def only(found: list[Fault]) -> Fault:
    assert len(found) == 1, [str(fault) for fault in found]
    return found[0]


def test_a_service_is_read_with_its_ports_mounts_and_secrets(notes: Write, load: Load) -> None:
    service = load(strict=True).services["notes"]
    container = service.containers["app"]
    assert container.environment == {"BASE": "https://notes.example.org"}
    assert [(p.address, p.port, p.container_port) for p in container.ports] == [("127.0.0.1", 8100, 80)]
    assert [(m.source, m.target, m.read_only) for m in container.mounts] == [
        ("/home/docker-projects/notes/data", "/data", False),
        ("/home/docker-projects/notes/notes.conf", "/etc/notes.conf", True),
    ]
    assert service.endpoint("app:80").url == "http://127.0.0.1:8100"
    assert set(service.files) == {"compose.yaml", "notes.conf"}


def test_the_block_may_stand_in_the_compose_file_and_its_variables_are_not_compose_variables(
    write: Write, load: Load
) -> None:
    write(
        "solo/compose.yaml",
        """
        services: {app: {image: "example/solo:1.0", ports: ["127.0.0.1:8101:80"]}}
        x-understudy:
          probe: {to: "app:80", text: "${NOT_A_VARIABLE}"}
    """,
    )
    assert load(strict=True).services["solo"].block.probe is not None


def test_no_block_is_valid(write: Write, load: Load) -> None:
    write(
        "plain/compose.yaml", "services: {app: {image: 'example/plain:1.0', ports: ['127.0.0.1:8102:80']}}\n"
    )
    service = load().services["plain"]
    assert (service.block.tier, service.block.group, service.project) == ("important", "rest", "plain")


def test_an_overlay_changes_the_block_and_adds_files(notes: Write, load: Load, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay" / "notes"
    overlay.mkdir(parents=True)
    (overlay / "understudy.yaml").write_text("tier: critical\n")
    (overlay / "notes.conf").write_text("colour = red\n")
    service = load(overlays=(tmp_path / "overlay",)).services["notes"]
    assert service.block.tier == "critical" and service.block.secrets["KEY"].uid == 1000
    assert service.files["notes.conf"].read_text() == "colour = red\n"


def test_services_start_after_what_they_need(notes: Write, write: Write, load: Load) -> None:
    write("reader/compose.yaml", "services: {app: {image: 'example/reader:1'}}\n")
    write("reader/understudy.yaml", "needs: [notes]\n")
    assert load().levels(["reader", "notes"]) == [["notes"], ["reader"]]


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says"),
    [
        ("needs: []", "neds: []", 1, "neds", "not a key"),
        ("needs: []", "needs: [nobody]", 1, "needs", "no service 'nobody'"),
        ("needs: []", "tier: urgent", 1, "tier", "critical"),
        ('to: "app:80"', 'to: "app:81"', 3, "routes.0.to", "not published"),
        ('to: "app:80"', 'to: "web:80"', 3, "routes.0.to", "names no container"),
        ("host: notes", "host: Notes!", 3, "routes[0].host", "not a label"),
        ("app:/data/notes.db", "app:/srv/notes.db", 4, "databases.0", "in no volume"),
        ("app:/data/notes.db", "db:/data/notes.db", 4, "databases.0", "no container 'db'"),
        ("generate: alnum32", "generate: dice", 6, "secrets.KEY.generate", "alnum32"),
        ("  KEY:", "  OTHER:", 11, "secrets.key", "unknown secret 'KEY'"),
    ],
)
def test_a_wrong_block_names_file_line_and_key(
    notes: Write, load: Load, old: str, new: str, line: int, key: str, says: str
) -> None:
    assert old in NOTES_BLOCK
    notes("notes/understudy.yaml", NOTES_BLOCK.replace(old, new))
    fault = only(faults(load))
    assert (fault.line, fault.key) == (line, key)
    assert says in fault.message


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("${DOMAIN}", "${DOMIAN}", 5, "has no value"),
        ("127.0.0.1:8100:80", "127.0.0.1:81x0:80", 4, "not a port"),
        ("    image:", "   image:", 3, "invalid YAML"),
        ("./data:/data", "data:/data", 7, "not declared"),
        ("    ports:", "    image: twice:1\n    ports:", 4, "given twice"),
    ],
)
def test_a_wrong_compose_file_names_file_and_line(
    notes: Write, load: Load, old: str, new: str, line: int, says: str
) -> None:
    assert old in NOTES
    path = notes("notes/compose.yaml", NOTES.replace(old, new))
    found = faults(load)
    assert any(says in fault.message for fault in found), found
    assert all(fault.file == path for fault in found)
    assert found[0].line in (line, line + 1)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("notes:1.2.3", "notes:latest", "floats"),
        ("notes:1.2.3", "notes", "floats"),
        ("./data:/data", "/data", "anonymous"),
        ("127.0.0.1:8100:80", "8100:80", "open to every network"),
        ('{BASE: "https://notes.${DOMAIN}"}', "{DB_PASSWORD: hunter2}", "in clear"),
    ],
)
def test_what_strict_refuses_is_a_warning_otherwise(
    notes: Write, load: Load, old: str, new: str, says: str
) -> None:
    assert old in NOTES
    notes("notes/compose.yaml", NOTES.replace(old, new))
    assert any(says in fault.message and fault.fix for fault in load().warnings)
    assert any(says in fault.message for fault in faults(load, strict=True))


def test_two_services_cannot_share_a_hostname_or_a_port(notes: Write, write: Write, load: Load) -> None:
    write("copy/compose.yaml", NOTES.replace("notes/KEY", "copy/KEY"))
    write("copy/understudy.yaml", NOTES_BLOCK)
    messages = [fault.message for fault in faults(load)]
    assert messages == ["hostname 'notes' is also routed by copy", "port 8100 is also used by copy"]


def test_a_circle_of_needs_is_refused(notes: Write, write: Write, load: Load) -> None:
    notes("notes/understudy.yaml", NOTES_BLOCK.replace("needs: []", "needs: [reader]"))
    write("reader/compose.yaml", "services: {app: {image: 'example/reader:1'}}\n")
    write("reader/understudy.yaml", "needs: [notes]\n")
    assert "circle" in only(faults(load)).message


def test_every_fault_is_reported_at_once(notes: Write, write: Write, load: Load) -> None:
    notes("notes/understudy.yaml", NOTES_BLOCK.replace("needs: []", "neds: []"))
    write("other/understudy.yaml", "wrong: 1\nnative: {exec: /bin/true}\n")
    assert {fault.key for fault in faults(load)} == {"neds", "wrong"}


def test_a_native_service_without_a_program_to_run_is_refused(write: Write, load: Load) -> None:
    write("tool/understudy.yaml", "native:\n  user: tool\n")
    fault = only(faults(load))
    assert (fault.line, fault.key) == (1, "native.exec") and "required" in fault.message
