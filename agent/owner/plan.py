"""What the control machine says about ownership: /etc/understudy/owner.json (understudy/ownership/files.py).

The file is there only where the inventory declares a second host that may own one of this host's move groups. Without
it nothing here acts: Docker's restart policies stay as the owner wrote them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import AgentError, because
from ..root import Root
from .engine import Seen

__all__ = ["PLAN", "Auto", "Group", "Managed", "Plan", "guarded", "load"]

PLAN = "/etc/understudy/owner.json"
FORMAT = 1


@dataclass(frozen=True)
class Managed:
    """One service of a guarded group.

    ``compose`` begins each of its Compose commands (empty: none); ``containers`` are its Compose services where it is a
    part of a project (empty: all of the project are its own); ``unit`` is the systemd unit of a native service;
    ``ports`` lead to it on this host. ``restart``: container to the restart policy that its owner wrote. ``user``: the
    system user of a native service, "" for root. ``servers``: its database servers.
    """

    name: str
    group: str
    project: str = ""
    compose: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    unit: str = ""
    user: str = ""
    ports: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    restart: dict[str, str] = field(default_factory=dict)

    def own(self, seen: Iterable[Seen]) -> list[Seen]:
        """Its own of the containers of its project."""
        return [one for one in seen if not self.containers or one.service in self.containers]


@dataclass(frozen=True)
class Group:
    """``first`` owns the group until a record says otherwise; ``hosts`` may own it. ``offline`` is serve or stay-down.

    ``refresh`` is the time between refreshes of its replica, in seconds; ``slots``: 1 where two would be too big.
    """

    name: str
    first: str
    hosts: tuple[str, ...]
    offline: str = "serve"
    refresh: int = 900
    slots: int = 2


@dataclass(frozen=True)
class Auto:
    """Auto mode: the lease of these groups lies at ``url`` and is ``seconds`` long; ``key`` is a file on this host."""

    url: str
    seconds: float
    groups: tuple[str, ...]
    key: str
    region: str = ""


@dataclass(frozen=True)
class Plan:
    """``resolvers`` are addresses of DNS over HTTPS; ``cacert`` a file that signs them, "" for the system's own.

    ``connectors`` are units that run while this host may run any group. Times in seconds.
    """

    host: str
    domain: str
    resolvers: tuple[str, ...]
    groups: dict[str, Group]
    services: dict[str, Managed]
    connectors: tuple[str, ...] = ()
    cacert: str = ""
    boot_wait: float = 120.0
    keep_days: float = 30.0
    auto: Auto | None = None
    raw: dict[str, Any] = field(default_factory=dict)

    def leased(self, group: str) -> Auto | None:
        """How the group's lease is kept; None where there is none."""
        return self.auto if self.auto and group in self.auto.groups else None

    def of(self, group: str) -> list[Managed]:
        """The services of a group, each after those it needs."""
        found: list[Managed] = []

        def add(name: str, above: frozenset[str]) -> None:
            service = self.services.get(name)
            if service is None or service.group != group or name in above or service in found:
                return
            for need in service.needs:
                add(need, above | {name})
            found.append(service)

        for name in self.services:
            add(name, frozenset())
        return found

    def group(self, name: str) -> Group:
        """Raises AgentError for a group that has no guard on this host."""
        if name not in self.groups:
            known = ", ".join(self.groups) or "none"
            raise AgentError(f"no group {name!r} is guarded on {self.host}; known: {known}", "bad-request")
        return self.groups[name]


def guarded(root: Root) -> Plan | None:
    """The plan, or None on a host without a guard. Raises AgentError for a plan that cannot be read."""
    try:
        with open(root.at(PLAN), encoding="utf-8") as stream:
            raw = json.load(stream)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AgentError(f"{PLAN} cannot be read: {because(error)}", "io") from error
    except ValueError as error:
        raise AgentError(f"{PLAN} is damaged ({error}): converge again", "broken") from error
    if raw.get("format") != FORMAT:
        raise AgentError(f"{PLAN} is for another version of the agent: converge again", "broken")
    return _parse(raw)


def load(root: Root) -> Plan:
    """The plan. Raises AgentError on a host without a guard."""
    found = guarded(root)
    if found is None:
        raise AgentError(
            "this host has no guard: the inventory names no second host that may own its groups", "no-guard"
        )
    return found


def _parse(raw: dict[str, Any]) -> Plan:
    return Plan(
        raw["host"],
        raw["domain"],
        tuple(raw.get("resolvers") or ()),
        {
            name: Group(name, **{**value, "hosts": tuple(value["hosts"])})
            for name, value in raw["groups"].items()
        },
        {name: _managed(name, value) for name, value in raw["services"].items()},
        tuple(raw.get("connectors") or ()),
        raw.get("cacert") or "",
        float(raw.get("boot_wait", 120)),
        float(raw.get("keep_days", 30)),
        _auto(raw.get("auto")),
        raw,
    )


def _auto(raw: dict[str, Any] | None) -> Auto | None:
    return Auto(**{**raw, "groups": tuple(raw["groups"])}) if raw else None


def _managed(name: str, raw: dict[str, Any]) -> Managed:
    lists = {key: tuple(raw.get(key) or ()) for key in ("compose", "containers", "ports", "needs", "servers")}
    return Managed(name, **{**raw, **lists})
