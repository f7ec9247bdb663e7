"""What a switchover asks before it begins."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.hostside import HostsideError
from understudy.switchover.begin import hearing
from understudy.switchover.hosts import Unreachable


class Host:
    """A host whose guard hears a resolver once it looks, unless ``deaf``."""

    def __init__(self, silence: float | None, deaf: Exception | None = None) -> None:
        self.silence, self.deaf = silence, deaf
        self.asked: list[str] = []

    def ask(self, verb: str, request: dict[str, Any], timeout: float = 60) -> dict[str, Any]:
        self.asked.append(verb)
        if verb == "guard":
            assert request == {"groups": ["critical"]}
            if self.deaf:
                raise self.deaf
            self.silence = 0.0
        return {"silence": self.silence}


def test_a_guard_that_hears_is_believed() -> None:
    host = Host(12.0)
    assert hearing(host, "critical") == ({"silence": 12.0}, "")  # type: ignore[arg-type]
    assert host.asked == ["journey"]


def test_a_guard_that_has_not_heard_since_its_boot_looks_now() -> None:
    host = Host(None)
    assert hearing(host, "critical") == ({"silence": 0.0}, "")  # type: ignore[arg-type]
    assert host.asked == ["journey", "guard", "journey"]


@pytest.mark.parametrize("error", [HostsideError("vaultwarden did not start"), Unreachable("gone")])
def test_one_that_cannot_look_says_what_it_said(error: Exception) -> None:
    host = Host(None, error)
    assert hearing(host, "critical") == ({"silence": None}, "")  # type: ignore[arg-type]


def test_a_host_without_a_guard_is_not_asked_to_look() -> None:
    class Plain(Host):
        def ask(self, verb: str, request: dict[str, Any], timeout: float = 60) -> dict[str, Any]:
            self.asked.append(verb)
            return {"owner": ""}

    host = Plain(None)
    assert hearing(host, "critical") == ({"owner": ""}, "")  # type: ignore[arg-type]
    assert host.asked == ["journey"]
