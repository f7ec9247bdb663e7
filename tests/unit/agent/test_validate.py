"""The host's own tools decide over the staged tree before anything live changes."""

from __future__ import annotations

import pytest

from understudy.agent.errors import AgentError
from understudy.agent.validate import mask, secrets_in

from .world import STATE, Want, World, to


def check(script: str, name: str = "check", **more: object) -> dict[str, object]:
    return {
        "name": name,
        "argv": ["sh", "-c", script, "sh", "{stage}"],
        "timeout": 10,
        "service": "x",
        **more,
    }


def rejected(world: World, *arguments: object, **more: object) -> AgentError:
    before = world.live()
    with pytest.raises(AgentError) as caught:
        world.apply(*arguments, **more)  # type: ignore[arg-type]
    assert caught.value.kind == "validation"
    assert world.live() == before and not world.at(f"{STATE}/staging").exists()
    return caught.value


def test_sees_new_files_unchanged_files_and_links_under_the_stage(world: World) -> None:
    world.write("/etc/kept", "kept", 0o600)
    script = 'cat "$1/etc/new" "$1/etc/kept" "$1/etc/link" > "$1/../../result"'
    tree = {"/etc/new": Want(b"new "), "/etc/link": to("/etc/new")}
    world.write("/etc/new", "the live file, which must not be read")
    world.apply(tree, context=["/etc/kept"], validators=[check(script)])
    assert world.at(f"{STATE}/result").read_text() == "new keptnew "


def test_every_objection_is_reported_in_the_tools_words(world: World) -> None:
    bad = [
        check("echo first line; echo bad token >&2; exit 3", "caddy"),
        check("exit 1", "compose"),
        check("true"),
    ]
    error = rejected(world, {"/etc/x": Want(b"1")}, validators=bad)
    assert "caddy: first line\nbad token" in error.sentence and "compose: exit status 1" in error.sentence
    assert [item["name"] for item in error.details["failures"]] == ["caddy", "compose"]


def test_the_staging_path_is_not_shown(world: World) -> None:
    error = rejected(world, {"/etc/x": Want(b"1")}, validators=[check('echo "$1/etc/x: line 3"; false')])
    assert "check: /etc/x: line 3" in error.sentence


def test_secrets_in_a_tools_output_are_masked(world: World) -> None:
    world.write("/etc/app/.env", "TOKEN=live-token-value\n", 0o600)
    tree = {
        "/etc/secret": Want(b"hunter2-hunter2\n", 0o644, secret=True),
        "/etc/closed": Want(b"k: 'qwertyuiop'\n", 0o640),
    }
    script = 'cat "$1/etc/secret" "$1/etc/closed" "$1/etc/app/.env"; false'
    error = rejected(world, tree, context=["/etc/app/.env"], validators=[check(script)])
    for value in ("hunter2-hunter2", "qwertyuiop", "live-token-value"):
        assert value not in error.sentence and value not in str(error.details)
    assert "***" in error.sentence


def test_a_tool_that_hangs_is_stopped(world: World) -> None:
    error = rejected(world, {"/etc/x": Want(b"1")}, validators=[check("sleep 60 & wait", timeout=0.3)])
    assert "took longer than 0.3 s" in error.sentence


def test_a_tool_that_is_not_there(world: World) -> None:
    error = rejected(world, {"/etc/x": Want(b"1")}, validators=[{"name": "caddy", "argv": ["no-such-tool"]}])
    assert "caddy: no-such-tool: No such file" in error.sentence


def test_a_context_file_that_vanished(world: World) -> None:
    with pytest.raises(AgentError, match="/etc/gone is needed for the checks and is missing") as caught:
        world.apply({"/etc/x": Want(b"1")}, context=["/etc/gone"], validators=[check("true")])
    assert caught.value.kind == "stale" and not world.at("/etc/x").exists()


def test_masking_hides_values_not_words() -> None:
    hidden = secrets_in([b'PASSWORD="s3cret value"\nDEBUG=1\n'])
    assert mask("got s3cret value and PASSWORD in line 1", hidden) == "got *** and PASSWORD in line 1"
