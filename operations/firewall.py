"""The firewall goes live only after a connection opened through it: nobody is locked out (I-03)."""

from __future__ import annotations

from typing import Any

from pyinfra import host
from pyinfra.api import operation
from pyinfra.api.exceptions import ConnectError

from .. import compare, firewall
from ..errors import UnderstudyError
from .host import shell
from .session import Commands, Session, guarded, no_delay, of, run
from .units import markers


@operation()
@guarded
def closed() -> Commands:
    """Load the ruleset that is on disk, prove a new connection, keep it; or go back."""
    session = of(host)
    if not session.desired.settings.parts.firewall:
        if _was_ours(session):
            yield run(session, remove)
        host.noop("the firewall is not ours")
        return
    if _applied(session):
        if markers(session, ["nftables"]):
            yield run(session, _settle)
        host.noop("the firewall is loaded and confirmed")
        return
    yield run(session, load)


def _applied(session: Session) -> bool:
    """True when the live ruleset is the confirmed one. A fresh host without nft answers no."""
    answer = shell(session, firewall.applied_command(), "could not ask for the firewall's state", timeout=30)
    changing = any(change.path == firewall.RULESET for change in session.changes().files)
    return not changing and "applied" in answer


def load(session: Session) -> None:
    """Arm the way back, load, open a new connection, disarm over it."""
    shell(session, firewall.arm_and_load_command(), "the firewall did not load", timeout=60)
    try:
        _reconnect(session)
    except (ConnectError, OSError) as error:
        raise UnderstudyError(
            f"no new SSH connection came through the new firewall ({error}): "
            f"the host goes back to its former rules within {firewall.ROLLBACK_SECONDS} s; check ssh_ports"
        ) from error
    shell(session, firewall.disarm_command(), "the firewall was not confirmed", timeout=60)
    _settle(session)
    session.record("firewall", ["loaded"])


def _settle(session: Session) -> None:
    """Forget that the ruleset's file changed: the live table is what the file says."""
    session.agent("settle", {"done": markers(session, ["nftables"])}, timeout=60)


def _was_ours(session: Session) -> bool:
    files = compare.readable(session.survey(), "files")
    return bool(files[firewall.CONFIRMED]["kind"] == "file")


def remove(session: Session) -> None:
    """The part was switched off: our table and its unit go, everything else stays."""
    shell(session, firewall.remove_command(), "our firewall table could not be removed", timeout=60)
    session.record("firewall", ["removed"])


_kept: list[Any] = []


def _reconnect(session: Session) -> None:
    """Open a second connection and use it from here on; the first one goes on holding the host's lock."""
    connector: Any = session.host.connector
    if not hasattr(connector, "client"):
        return
    _kept.append(connector.client)
    connector.connect()
    no_delay(session.host)
