"""systemd: what a changed file asks for, and units that should be enabled and running."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from .host import noted, shell
from .session import Commands, Session, guarded, of, run

SYSTEM_REACTIONS = {
    "systemd": "true",  # the daemon-reload before it is all that is wanted
    "sysctl": "sysctl --system --quiet || true",
    "journald": "systemctl restart systemd-journald",
    "sshd": "systemctl reload ssh || systemctl reload sshd",
    "docker": "systemctl reload-or-restart docker",
    "apt": "true",
    "fail2ban": "systemctl reload-or-restart fail2ban",
    "timesyncd": "systemctl try-restart systemd-timesyncd",
}

# A unit that was off before us goes off again when we leave.
_NOTE = 'systemctl is-enabled --quiet "$unit" 2>/dev/null || printf "%s\\n" "$unit"'


@operation()
@guarded
def settled() -> Commands:
    """Bring the host's own services in line with their changed files, then start what should run."""
    session = of(host)
    reactions, units = _wanted(session)
    if not reactions and not units:
        host.noop("all units are as described")
        return
    yield run(session, settle)


def _wanted(session: Session) -> tuple[list[str], list[str]]:
    changes = session.changes()
    own = [r for r in changes.reactions if r in SYSTEM_REACTIONS or r.startswith("unit:")]
    return own, changes.units


def settle(session: Session) -> None:
    """Reload systemd once, then restart exactly what changed, then enable and start what is missing."""
    reactions, units = _wanted(session)
    restarts = sorted({r.removeprefix("unit:") for r in reactions if r.startswith("unit:")})
    may_skip = {unit.name for unit in session.desired.units if unit.may_be_skipped}
    shell(
        session,
        command([r for r in reactions if r in SYSTEM_REACTIONS], restarts, units),
        "could not settle units",
        300,
    )
    session.agent("settle", {"done": markers(session, reactions)}, timeout=60)
    session.record("restarted", restarts)
    session.record("started", [u for u in units if u not in restarts and u not in may_skip])


def markers(session: Session, reactions: list[str]) -> dict[str, str]:
    """The host's markers of these reactions with their tokens: one that was set anew meanwhile stays."""
    known = session.survey().get("markers") or {}
    return {reaction: known[reaction] for reaction in reactions if reaction in known}


def command(reactions: list[str], restarts: list[str], starts: list[str]) -> str:
    """One shell command that stops at the first step that fails."""
    steps = ["systemctl daemon-reload"]
    steps += [SYSTEM_REACTIONS[name] for name in reactions]
    enable = sorted({*restarts, *starts})
    foreign = [name for name in enable if not name.startswith("understudy-")]
    if foreign:
        steps.append(noted("enabled", f"for unit in {_quoted(foreign)}; do {_NOTE}; done"))
    if enable:
        steps.append(f"systemctl enable --quiet {_quoted(enable)}")
    if restarts:
        steps.append(f"systemctl restart {_quoted(restarts)}")
    later = [name for name in starts if name not in restarts]
    if later:
        steps.append(f"systemctl start {_quoted(later)}")
    return " && ".join(f"{{ {step}; }}" for step in steps)


def _quoted(names: list[str]) -> str:
    return " ".join(shlex.quote(name) for name in names)
