"""The timers of the control machine, and what they find when they did not run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from understudy import cli_schedule
from understudy.errors import BadInput, UnderstudyError
from understudy.repository import listing, prune, schedule
from understudy.repository.schedule import Place

DAY = 86400.0
NOW = 1_800_000_000.0
HOME = Place("/home/anna/my 100% lab", "/opt/under study", "inventory/prod.py", {"SOPS_AGE_KEY_FILE": "/k y"})


def test_each_duty_has_a_service_and_a_timer_that_makes_up_for_a_missed_time() -> None:
    made = schedule.units(HOME)
    assert len(made) == 6
    for duty in schedule.DUTIES:
        service, timer = (made[f"understudy-repo-{duty.verb}.{kind}"] for kind in ("service", "timer"))
        line = f"ExecStart='/opt/under study' repo {duty.verb} --inventory inventory/prod.py"
        assert line in service and "WorkingDirectory=/home/anna/my 100%% lab" in service
        assert 'Environment="SOPS_AGE_KEY_FILE=/k y"' in service
        assert "Persistent=true" in timer and f"OnCalendar={duty.calendar}" in timer


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
def test_systemd_takes_the_times() -> None:
    for duty in schedule.DUTIES:
        done = subprocess.run(
            ["systemd-analyze", "calendar", duty.calendar], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_lines_for_cron_run_in_the_project(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "$PWD $SOPS_AGE_KEY_FILE $*" >> ran\n')
    program.chmod(0o755)
    place = Place(str(tmp_path / "a b"), str(program), "inv.py", {"SOPS_AGE_KEY_FILE": "/k y"})
    for line in schedule.cron(place):
        command = line.split(" ", 5)[5].replace("\\%", "%")
        subprocess.run(["sh", "-c", command], check=True)
    ran = (tmp_path / "a b/ran").read_text().splitlines()
    assert ran == [
        f"{tmp_path}/a b /k y repo {verb} --inventory inv.py" for verb in ("check", "prune", "tamper")
    ]


def test_installed_and_removed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/told\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    timers = schedule.install(HOME)
    assert sorted(p.name for p in schedule.folder().iterdir()) == sorted(schedule.units(HOME))
    assert (tmp_path / "told").read_text().splitlines() == [
        "--user daemon-reload",
        f"--user enable --now {' '.join(timers)}",
    ]
    (schedule.folder() / "other.timer").touch()
    assert len(schedule.remove()) == 6
    assert [p.name for p in schedule.folder().iterdir()] == ["other.timer"] and schedule.remove() == []
    program.write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2; exit 1\n")
    with pytest.raises(UnderstudyError, match=r"Failed to connect to bus.*--cron"):
        schedule.install(HOME)


def test_outside_a_project_nothing_is_scheduled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="run this in the project's folder"):
        cli_schedule.place("inventory/prod.py")


def lying(*marks: tuple[str, float]) -> listing.Listing:
    def raw(id: str, days: float, *tags: str) -> dict[str, object]:
        moment = prune.time.strftime("%Y-%m-%dT%H:%M:%SZ", prune.time.gmtime(NOW - days * DAY))
        return {"id": id, "time": moment, "tags": list(tags), "hostname": "h"}

    ours = ("understudy", "group:g", "tier:critical", "epoch:1", "seq:1", "service:a")
    found = [raw("first", 60, *ours), raw("c", 60, listing.CREATED)]
    return listing.read([*found, *(raw(f"m{n}", days, tag) for n, (tag, days) in enumerate(marks))])


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        ([(listing.PRUNED, 1), (listing.TAMPERED, 10)], []),
        ([(listing.PRUNED, 9), (listing.TAMPERED, 10)], ["no prune ended well since 9 days"]),
        ([(listing.PRUNED, 1), (listing.TAMPERED, 41)], ["the tamper test was not passed since 41 days"]),
        ([(listing.PRUNED, 1)], ["the tamper test was not passed ever"]),
        ([], ["no prune ended well ever", "the tamper test was not passed ever"]),
    ],
)
def test_what_did_not_run_is_found_in_the_repository(marks: list[tuple[str, float]], told: list[str]) -> None:
    found = prune.worries(lying(*marks), [], NOW, tamper=True)
    assert [sentence.split(":")[0] for sentence in found] == told
    assert not any("tamper" in sentence for sentence in prune.worries(lying(*marks), [], NOW))


def test_only_the_newest_mark_of_a_tamper_test_is_kept() -> None:
    found = lying((listing.TAMPERED, 50), (listing.TAMPERED, 10), (listing.TAMPERED, 30))
    assert listing.older_tests(found) == ["m0", "m2"]
    assert found.strangers == () and len(found.snapshots) == 1
