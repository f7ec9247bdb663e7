"""The host itself: the lock of a run, what must be true before it, packages and users."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import operation

from .. import baseline, preflight
from ..agent.root import STATE
from ..errors import UnderstudyError
from . import lock
from .session import Commands, Session, guarded, looking, of, refuse, run


@operation()
@guarded
def locked() -> Commands:
    """Take the host's lock for this run; it goes away by itself when the connection does."""
    yield from looking(_lock, "nobody else is changing this host")


def _lock(session: Session) -> None:
    lock.take(session)
    session.changing = True


@operation()
@guarded
def checked() -> Commands:
    """Stop before anything changes when the host cannot take the change or it could cost data."""
    session = of(host)
    survey = session.survey()
    problems = preflight.problems(session.desired, survey) + _lockout(session)
    if problems:
        raise UnderstudyError("\n".join(problems))
    files = session.changes().files
    refuse(preflight.refusals(session.desired, survey, files, session.allowed))
    host.noop("the host can take this change")
    return
    yield


def _lockout(session: Session) -> list[str]:
    """Hardening sshd while we come in with a password would lock the owner out."""
    settings = session.desired.settings
    if not settings.parts.ssh_hardening:
        return []
    password = bool(session.host.data.get("ssh_password"))
    return baseline.connection_faults(settings, password=password, key_present=not password)


@operation()
@guarded
def packages() -> Commands:
    """Install the packages that are missing, refreshing the index only then."""
    session = of(host)
    missing = session.changes().packages
    if not missing:
        host.noop("all packages are installed")
        return
    yield run(session, lambda s: _install(s, missing))


def install_command(names: list[str]) -> str:
    """One shell command: refresh the index, note what is about to come, install without questions or recommendations."""
    chosen = " ".join(shlex.quote(name) for name in names)
    options = "-o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold -y --no-install-recommends"
    # "Inst NAME (NEW" is new, "Inst NAME [OLD] (NEW" an upgrade of somebody else's package.
    coming = f"apt-get --simulate install {options} {chosen} | sed -n 's/^Inst \\([^ ]*\\) (.*/\\1/p'"
    return (
        "export DEBIAN_FRONTEND=noninteractive; apt-get update -q && "
        f"{noted('packages', coming)} && apt-get install {options} {chosen}"
    )


def noted(name: str, lines: str) -> str:
    """The shell command that adds the output of ``lines`` to one of the host's notes, for `host leave`."""
    return f"(umask 077; mkdir -p {STATE} && {{ {lines}; }} >> {STATE}/{name})"


def _install(session: Session, names: list[str]) -> None:
    shell(session, install_command(names), f"could not install {', '.join(names)}", timeout=1800)
    session.record("packages", names)


@operation()
@guarded
def users() -> Commands:
    """Create the system users of native services."""
    session = of(host)
    missing = session.changes().users
    if not missing:
        host.noop("all users exist")
        return
    yield run(session, lambda s: _create(s, missing))


def user_command(name: str) -> str:
    """Create a system user with its own group, no home and no shell."""
    return f"useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin {shlex.quote(name)}"


def _create(session: Session, names: list[str]) -> None:
    note = noted("users", f"printf '%s\\n' {' '.join(shlex.quote(name) for name in names)}")
    shell(
        session,
        " && ".join([note, *map(user_command, names)]),
        f"could not create {', '.join(names)}",
        timeout=60,
    )
    session.record("users", names)


def shell(session: Session, command: str, problem: str, timeout: int) -> list[str]:
    """Run a shell command on the host. Raises UnderstudyError: ``problem`` and the last line of output."""
    ok, output = session.send(command, problem, timeout)
    if not ok:
        lines = [line for line in output.output_lines if line.strip()]
        errors = [line for line in lines if line.startswith(("E:", "error", "Error"))]
        raise UnderstudyError(f"{problem}: {(errors or lines or ['no output'])[-1].strip()}")
    return list(output.stdout_lines)
