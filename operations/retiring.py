"""Taking a service off a host: its containers or unit go, its data stays where it is."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from ..desired import Desired
from ..errors import BadInput
from .host import shell
from .session import Commands, Session, guarded, of, run


@operation()
@guarded
def stopped(service: str) -> Commands:
    """Stop and remove the containers (never the volumes) or the unit of one service."""
    session = of(host)
    text = command(session.desired, service)
    yield run(session, lambda s: _stop(s, service, text))


def command(desired: Desired, service: str) -> str:
    """The shell command that stops a service, where it ever came up. Raises BadInput when it is not on this host."""
    if service in desired.stacks:
        stack = desired.stacks[service]
        down = shlex.join(stack.compose("down", "--remove-orphans"))
        return f"if [ -e {shlex.quote(stack.files[0])} ]; then {down}; fi"
    if service in desired.natives:
        unit = shlex.quote(desired.catalog.services[service].unit)
        return f"if systemctl cat {unit} > /dev/null 2>&1; then systemctl disable --now {unit}; fi"
    raise BadInput(
        f"{desired.settings.name} has no service {service!r}; it has {', '.join(desired.services)}"
    )


def _stop(session: Session, service: str, text: str) -> None:
    shell(session, text, f"could not stop {service}", timeout=300)
    session.note(stopped=service, kept=_data(session.desired, service))
    session.write_report()


def _data(desired: Desired, service: str) -> list[str]:
    """Where the data of a service is, for the owner to read."""
    described = desired.catalog.services[service]
    mounts = [m for c in described.all_containers.values() for m in c.mounts if not m.read_only and m.source]
    places = [
        m.source if m.kind == "bind" else f"volume {described.project}_{m.source}"
        for m in mounts
        if m.kind != "tmpfs"
    ]
    return sorted({*places, *(described.block.native.writable if described.block.native else [])})
