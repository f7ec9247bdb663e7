"""What travels to a host with each call is all that its verbs need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from understudy import hostside
from understudy.agent import losses
from understudy.agent.entry import VERBS
from understudy.agent.owner import line
from understudy.agent.root import Root


def test_every_verb_can_be_imported_from_what_travels(tmp_path: Path) -> None:
    for package in ("", "census"):
        place = tmp_path / f"agent-{package}.zip"
        place.write_bytes(hostside.bundle(package))
        verbs = ["census"] if package else [verb for verb in VERBS if verb != "census"]
        program = f"import sys, importlib; sys.path.insert(0, {str(place)!r})\n" + "\n".join(
            f"importlib.import_module('agent.{verb}')" for verb in verbs
        )
        done = subprocess.run(
            [sys.executable, "-IB", "-c", program], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_a_silence_of_the_line_is_noted_once_it_is_over_and_the_longest_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, now = Root(str(tmp_path)), 1000.0
    monkeypatch.setattr(line, "boottime", lambda: now)
    assert losses.report(root) == {"longest": 0.0, "at": 0.0, "auto": []}
    for gone in (90.0, 400.0, 30.0):
        line.heard(root, False)
        now += gone
        line.heard(root, False)
        line.heard(root, True)
        line.heard(root, True)
    plan = tmp_path / "etc/understudy/owner.json"
    plan.parent.mkdir(parents=True)
    plan.write_text(json.dumps({"auto": {"groups": ["critical"]}}))
    found = losses.report(root)
    assert (found["longest"], found["auto"]) == (430.0, ["critical"]) and found["at"] > 0
