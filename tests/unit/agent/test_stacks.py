"""Stacks come up level by level; a failure stops exactly what needs it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from understudy.agent import process, stacks
from understudy.agent.errors import AgentError

from .world import Want, World


def stack(name: str, script: str = "true", **more: Any) -> dict[str, Any]:
    return {"service": name, "argv": ["sh", "-c", script], "timeout": 20, **more}


def run(world: World, *jobs: dict[str, Any], **request: Any) -> dict[str, dict[str, Any]]:
    reply = stacks.run({"stacks": list(jobs), **request}, world.root)
    return {result["service"]: result for result in reply["results"]}


def test_a_level_runs_side_by_side_and_the_next_one_after_it(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def job(name: str) -> dict[str, Any]:
        return stack(name, f"echo +{name} >> {log}; sleep 0.5; echo -{name} >> {log}")

    started = time.monotonic()
    run(world, job("a"), job("b"), job("c"), levels=[["a", "b"], ["c"]])
    lines = log.read_text().split()
    assert sorted(lines[:2]) == ["+a", "+b"] and lines[4:] == ["+c", "-c"]
    assert time.monotonic() - started < 4


def test_steps_run_in_order_until_one_fails(world: World, tmp_path: Path) -> None:
    steps = [["sh", "-c", f"echo {n} >> {tmp_path}/log; exit {int(n == 2)}"] for n in (1, 2, 3)]
    result = run(world, {"service": "a", "argv": steps})["a"]
    assert result["rc"] == 1 and (tmp_path / "log").read_text().split() == ["1", "2"]


def test_a_failure_stops_what_needs_it_and_nothing_else(world: World) -> None:
    jobs = [
        stack("db", "echo no space left; exit 9"),
        stack("cache"),
        stack("app"),
        stack("web"),
        stack("other"),
    ]
    needs = {"app": ["db", "cache"], "web": ["app"], "other": ["cache"]}
    found = run(world, *jobs, levels=[["db", "cache"], ["app", "other"], ["web"]], needs=needs)
    assert {name: result["rc"] for name, result in found.items()} == {
        "db": 9, "cache": 0, "app": None, "other": 0, "web": None,
    }  # fmt: skip
    assert found["db"]["tail"] == ["no space left"]
    assert found["app"]["skipped"] == "it needs db, which did not start"
    assert found["web"]["skipped"] == "it needs app, which did not start"


def test_without_needs_a_failure_stops_every_later_level(world: World) -> None:
    found = run(world, stack("a", "exit 1"), stack("b"), stack("c"), levels=[["a", "b"], ["c"]])
    assert [found[name]["rc"] for name in "abc"] == [1, 0, None]


def test_only_success_clears_markers(world: World) -> None:
    reactions = "stack:good stack:bad stack:skipped"
    world.apply({"/etc/x": Want(b"1", reaction=reactions)})
    jobs = [
        stack("good", clears=["stack:good"]), stack("bad", "exit 1", clears=["stack:bad"]),
        stack("skipped", clears=["stack:skipped"]),
    ]  # fmt: skip
    run(world, *jobs, levels=[["good", "bad"], ["skipped"]], needs={"skipped": ["bad"]})
    assert world.pending() == {"stack%3Abad", "stack%3Askipped"}


def test_one_that_takes_too_long_is_stopped_with_its_children(world: World, tmp_path: Path) -> None:
    script = f"(sleep 2; touch {tmp_path}/alive) & echo pulling; wait"
    started = time.monotonic()
    result = run(world, stack("slow", script, timeout=1))["slow"]
    assert result["rc"] == 124 and time.monotonic() - started < 10
    assert result["tail"] == ["pulling", "sh took longer than 1 s and was stopped"]
    time.sleep(1.5)
    assert not (tmp_path / "alive").exists()


@pytest.mark.parametrize("stubborn", ["trap '' TERM; sleep 30", "(trap '' TERM; sleep 30) & wait"])
def test_one_that_ignores_a_polite_end_is_killed(
    world: World, monkeypatch: pytest.MonkeyPatch, stubborn: str
) -> None:
    monkeypatch.setattr(process, "_GRACE", 0.2)
    started = time.monotonic()
    assert run(world, stack("slow", stubborn, timeout=1))["slow"]["rc"] == 124
    assert time.monotonic() - started < 10


def test_output_is_streamed_cut_and_masked(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    result = run(world, stack("a", "seq 30; echo token=hunter2 >&2"), mask=["hunter2"])["a"]
    assert len(result["tail"]) == 15 and result["tail"][-1] == "token=***"
    shown = capfd.readouterr().err
    assert "understudy: a: 30" in shown and "hunter2" not in shown


def test_command_that_is_not_there(world: World) -> None:
    result = run(world, {"service": "a", "argv": ["no-such-program"]})["a"]
    assert result["rc"] == 127 and "no-such-program" in result["tail"][0]


@pytest.mark.parametrize("levels", [[["a"]], [["a", "b"], ["b"]]])
def test_levels_must_place_each_stack_once(world: World, levels: list[list[str]]) -> None:
    with pytest.raises(AgentError, match=r"b is in (no level|two levels)") as caught:
        run(world, stack("a"), stack("b"), levels=levels)
    assert caught.value.kind == "bad-request"


def test_names_in_levels_without_work_are_passed_over(world: World) -> None:
    assert run(world, stack("b"), levels=[["a"], ["b"]], needs={"b": ["a"]})["b"]["rc"] == 0
