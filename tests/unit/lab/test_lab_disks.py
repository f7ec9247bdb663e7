"""Disks of the lab: which loop devices are whose. Plugging them in is tested on lab hosts."""

from __future__ import annotations

from pathlib import Path

from lab.facts import HostFacts
from lab.hosts import create_command
from lab.settings import Settings
from lab.storage import usb


def test_a_lab_has_devices_of_its_own() -> None:
    mine, others = usb.minors("understudy-lab-aaaaaa"), usb.minors("understudy-lab-bbbbbb")
    assert len(mine) == usb.PER_LAB
    assert not set(mine) & set(others)
    assert mine == usb.minors("understudy-lab-aaaaaa")
    assert all(minor >= usb.FIRST_MINOR for minor in mine), "the machine's own come first"


def test_hosts_may_use_those_and_no_others(tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path / "state")
    argv = create_command(settings, "one", HostFacts("10.0.0.10", "c", "primary"), "10.0.0.1", "image")
    rules = [word for word in argv if word.startswith("--device-cgroup-rule")]
    first = usb.minors(settings.project)[0]
    assert len(rules) == usb.PER_LAB
    assert rules[0] == f"--device-cgroup-rule=b 7:{first} rwm"
    assert not any("*" in rule for rule in rules)


def test_nothing_is_behind_a_device_that_is_not_there() -> None:
    assert usb.backing_file(1_000_000) == ""
