"""The exact text of what is sent to a host: commands, units, the Caddyfile, the .env file."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from samples import VARIABLES, Write

from understudy import compose, dotenv, images, native, render, runner
from understudy.catalog import Catalog
from understudy.compare import FileChange
from understudy.desired import Desired
from understudy.operations import lock, retiring, stacks, tree, units
from understudy.operations.host import install_command, user_command
from understudy.secrets import Masker
from understudy.settings import HostSettings
from understudy.spec import Native
from understudy.tree import Entry

Load = Callable[..., Catalog]
UP = [
    "docker",
    "compose",
    "--project-name",
    "notes",
    "--project-directory",
    "/home/docker-projects/notes",
    "--file",
    "/home/docker-projects/notes/compose.yaml",
    "--env-file",
    "/home/docker-projects/notes/.env",
]


@pytest.fixture
def desired(notes: Write, load: Load) -> Desired:
    return render.desired(
        load(), HostSettings(name="box", domain=VARIABLES["DOMAIN"]), {"notes": {"KEY": "value"}}
    )


def test_a_stack_comes_up_waited_for(desired: Desired) -> None:
    assert stacks.commands(desired, desired.stacks["notes"], True, []) == [
        [*UP, "up", "--detach", "--wait", "--wait-timeout", "180", "--remove-orphans"]
    ]


def test_only_the_container_that_mounts_a_changed_file_is_recreated(desired: Desired) -> None:
    assert stacks.commands(desired, desired.stacks["notes"], False, ["recreate:notes/app"]) == [
        [*UP, "up", "--detach", "--wait", "--wait-timeout", "180", "--force-recreate", "--no-deps", "app"]
    ]


def test_a_stack_that_is_right_gets_no_command(desired: Desired) -> None:
    assert stacks.commands(desired, desired.stacks["notes"], False, []) == []


def test_retiring_never_removes_volumes(desired: Desired) -> None:
    command = retiring.command(desired, "notes")
    assert (
        command.endswith("down --remove-orphans; fi") and "--volumes" not in command and " -v" not in command
    )


def test_units_settle_in_one_command_that_stops_at_the_first_failure() -> None:
    own = ["understudy-a.service", "understudy-b.timer"]
    assert units.command(["sysctl"], own[:1], own) == (
        "{ systemctl daemon-reload; } && { sysctl --system --quiet || true; } && "
        "{ systemctl enable --quiet understudy-a.service understudy-b.timer; } && "
        "{ systemctl restart understudy-a.service; } && { systemctl start understudy-b.timer; }"
    )


def test_a_unit_of_somebody_else_that_was_off_is_noted_before_it_is_enabled() -> None:
    command = units.command([], [], ["docker.service"])
    note, enable = command.index(">> /var/lib/understudy/enabled"), command.index("systemctl enable")
    assert note < enable and "systemctl is-enabled --quiet" in command[:note]


def test_packages_are_installed_without_questions() -> None:
    command = install_command(["restic", "a b"])
    assert command.startswith("export DEBIAN_FRONTEND=noninteractive; apt-get update -q && ")
    note, install = command.index(">> /var/lib/understudy/packages"), command.rindex("apt-get install")
    assert "apt-get --simulate install" in command[:note] and note < install
    assert command.endswith("--no-install-recommends restic 'a b'") and "--force-confold" in command


def test_service_users_cannot_log_in() -> None:
    assert user_command("gokapi").endswith("--shell /usr/sbin/nologin gokapi")


def test_the_lock_is_held_by_the_channel_and_names_its_holder() -> None:
    command = lock.command("me@desk")
    assert "flock --nonblock --conflict-exit-code 75 /run/understudy/converge.lock" in command
    assert "me@desk" in command and "exec cat" in command


def test_pyinfra_gets_only_the_data_that_was_given() -> None:
    argv = runner.argv("inventory/lab.py", "deploy.py", {"fresh": "notes", "overwrite": ""}, ["-y"])
    assert argv[1:] == ["-m", "pyinfra", "inventory/lab.py", "deploy.py", "-y", "--data", "fresh=notes"]


def test_the_tree_holds_each_file_with_its_owner_mode_and_reaction(desired: Desired) -> None:
    found = {e.path: (e.kind, f"{e.mode:o}", e.user, e.secret, e.reaction) for e in desired.service_entries}
    assert found == {
        "/etc/understudy/secrets/notes": ("dir", "711", "root", False, ""),
        "/etc/understudy/secrets/notes/KEY": ("file", "400", 1000, True, "recreate:notes/app"),
        "/home/docker-projects/notes": ("dir", "755", "root", False, ""),
        "/home/docker-projects/notes/.env": ("file", "600", "root", True, "stack:notes"),
        "/home/docker-projects/notes/compose.yaml": ("file", "644", "root", False, "stack:notes"),
        "/home/docker-projects/notes/notes.conf": ("file", "644", "root", False, "recreate:notes/app"),
    }


def test_the_owners_compose_file_reaches_the_host_byte_for_byte(desired: Desired) -> None:
    entry = desired.tree.entries["/home/docker-projects/notes/compose.yaml"]
    assert entry.content == (desired.catalog.services["notes"].folder / "compose.yaml").read_bytes()


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("plain", "'plain'"),
        ("a b$c", "'a b$c'"),
        ("it's", '"it\'s"'),
        ("a'b$\"\\", '"a\'b\\$\\"\\\\"'),
        ("one\ntwo", '"one\\ntwo"'),
    ],
)
def test_env_values_survive(value: str, quoted: str) -> None:
    assert dotenv.quote(value) == quoted


def test_a_native_service_reads_its_secrets_from_files_never_from_its_unit() -> None:
    service = Native(exec="/opt/app --serve", credentials=["TOKEN"], environment_from_credentials=["TOKEN"])
    assert native.command(service) == (
        '/bin/sh -c \'TOKEN="$$(cat "$${CREDENTIALS_DIRECTORY}/TOKEN")"; export TOKEN; exec /opt/app --serve\''
    )


@pytest.mark.parametrize(
    ("reference", "parts", "floating"),
    [
        ("postgres:16.4", ("postgres", "16.4", ""), False),
        ("docker.io/library/nginx:alpine", ("nginx", "alpine", ""), True),
        ("ghcr.io/a/b", ("ghcr.io/a/b", "", ""), True),
        ("localhost:5000/a/b:1", ("localhost:5000/a/b", "1", ""), False),
        ("a/b:latest@sha256:00", ("a/b", "latest", "sha256:00"), False),
    ],
)
def test_image_references(reference: str, parts: tuple[str, str, str], floating: bool) -> None:
    image = images.parse(reference)
    assert (image.name, image.tag, image.digest) == parts and image.floating is floating


@pytest.mark.parametrize(
    ("live", "declared", "older"),
    [
        ("a:1.10", "a:1.9", True),
        ("a:1.9", "a:1.10", False),
        ("a:16", "a:16.4", False),
        ("a:v2.0-alpine", "a:v1.9-alpine", True),
        ("a:latest", "a:1.0", False),
        ("a:2", "b:1", False),
    ],
)
def test_downgrades_are_seen(live: str, declared: str, older: bool) -> None:
    assert images.is_downgrade(live, declared) is older


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${A}", "1"),
        ("$A-$$B", "1-$B"),
        ("${B:-x}", "x"),
        ("${E:-x}", "x"),
        ("${E-x}", ""),
        ("${A:+y}", "y"),
        ("${B:+y}", ""),
        ("${NONE}", "${NONE}"),
    ],
)
def test_variables_are_replaced_as_compose_does(text: str, result: str) -> None:
    assert compose.interpolate(text, {"A": "1", "E": ""}) == result


def test_an_override_file_is_merged_as_compose_does() -> None:
    base = {"ports": ["1:1"], "environment": {"A": "1", "B": "1"}, "command": ["a", "b"], "image": "x:1"}
    over = {"ports": ["2:2"], "environment": {"B": "2"}, "command": ["c"], "image": "x:2"}
    assert compose.merge(base, over) == {
        "ports": ["1:1", "2:2"],
        "environment": {"A": "1", "B": "2"},
        "command": ["c"],
        "image": "x:2",
    }


def test_a_diff_never_shows_a_secret() -> None:
    masker = Masker({"s3cret-value": "KEY"})
    plain = Entry("/etc/x.conf", content=b"key = s3cret-value\nport = 2\n")
    assert tree.diff(plain, b"port = 1\n", masker)[2:] == [
        "@@ -1 +1,2 @@",
        "-port = 1",
        "+key = \u2039KEY\u203a",
        "+port = 2",
    ]
    hidden = Entry("/etc/y", content=b"other", secret=True)
    assert tree.diff(hidden, b"old", masker) == ["(a secret: content not shown)"]
    assert tree.diff(Entry("/z", content=b"\xff"), b"", masker) == ["(binary: 0 → 1 bytes)"]


def test_many_changes_are_counted_not_listed() -> None:
    few = [FileChange("/a", "create", "missing"), FileChange("/b", "delete", "0")]
    assert tree.summary(few) == ["create: /a", "delete: /b"]
    assert tree.summary([FileChange(f"/{n}", "create", "missing") for n in range(30)]) == ["create: 30 paths"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            [
                " web Pulling ",
                " web Error ",
                'Error response from daemon: Get "https://r.example/v2/": timeout',
            ],
            'example/echo:9.9: Error response from daemon: Get "https://r.example/v2/": timeout',
        ),
        (
            [" web Error ", "Error response from daemon: manifest for example/echo:9.9 not found"],
            "Error response from daemon: manifest for example/echo:9.9 not found",
        ),
        (
            [
                " Container e-web-1  Waiting ",
                " Container e-web-1  Error ",
                "dependency failed to start: container e-web-1 is unhealthy",
            ],
            "dependency failed to start: container e-web-1 is unhealthy",
        ),
        ([" Container e-web-1  Waiting "], "Container e-web-1  Waiting"),
        ([], "exit code 1"),
    ],
)
def test_why_a_stack_did_not_come_up(lines: list[str], sentence: str) -> None:
    assert stacks.explained(lines, {"web": "example/echo:9.9"}, 1) == sentence
