"""The reconciled file tree: one comparison, one upload, validated on the host, renamed under a journal."""

from __future__ import annotations

import base64
import difflib
import shlex
from collections import Counter
from collections.abc import Iterable

from pyinfra import host, logger, state
from pyinfra.api import operation

from .. import release
from ..compare import FileChange
from ..protection.files import UNITS
from ..secrets import Masker
from ..traffic import tokens
from ..tree import Entry
from .host import shell
from .session import Commands, Session, guarded, of, run

MOST_LINES = 20


@operation()
@guarded
def reconciled() -> Commands:
    """Make every declared file what the description says; nothing else on the host is touched."""
    session = of(host)
    changes = session.changes().files
    if state.config.DIFF and not state.is_executing:
        show(session, changes)
    if not changes and (session.survey().get("journal") is None):
        host.noop(f"all {len(session.desired.tree)} files are as described")
        return
    yield run(session, apply)


def apply(session: Session) -> None:
    """Upload and apply what differs; the agent refuses what changed since it was compared."""
    tokens.check_filled(session.desired)
    changes = session.changes().files
    _stop_units(session, changes)
    before = (session.survey().get("manifest") or {}) if session.only else None
    request = release.build(session.desired, changes, before=before)
    answer = session.agent("apply", request, timeout=900)
    for line in summary(changes):
        session.host.log_styled(line, fg="green", log_func=logger.info)
    session.record("files", [f"{change.action} {change.path}" for change in changes])
    session.note(apply_seconds=answer.get("seconds"))


def leaving_units(changes: Iterable[FileChange]) -> list[str]:
    """Units of ours whose files go: a timer would go on firing after its file is gone."""
    paths = [change.path for change in changes if change.action == "delete" and not change.service]
    names = [path.removeprefix(f"{UNITS}/") for path in paths if path.startswith(f"{UNITS}/understudy-")]
    return sorted(name for name in names if "/" not in name)


def _stop_units(session: Session, changes: Iterable[FileChange]) -> None:
    names = leaving_units(changes)
    if names:
        chosen = " ".join(shlex.quote(name) for name in names)
        shell(session, f"systemctl disable --now --quiet {chosen}", "could not stop our units", timeout=120)
        session.record("stopped", names)


def summary(changes: list[FileChange]) -> list[str]:
    """A line a change, or one line of counts when there are too many to read."""
    if len(changes) <= MOST_LINES:
        return [f"{change.action}: {change.path}" for change in changes]
    counts = Counter(change.action for change in changes)
    return [", ".join(f"{action}: {count} paths" for action, count in counts.items())]


def show(session: Session, changes: Iterable[FileChange]) -> None:
    """Print what would change, secrets masked."""
    changes = list(changes)
    wanted = [c.path for c in changes if c.action == "update"]
    live = session.agent("read", {"paths": wanted}, timeout=60).get("contents", {}) if wanted else {}
    masker = Masker(session.desired.masks)
    for change in changes:
        session.host.log_styled(f"Would {change.action}: {change.path}", fg="yellow", log_func=logger.info)
        if change.action in ("create", "update"):
            old = base64.b64decode(live[change.path]) if change.path in live else b""
            for line in diff(session.desired.tree.entries[change.path], old, masker):
                logger.info("    %s", line)


def diff(entry: Entry, old: bytes, masker: Masker) -> list[str]:
    """Unified diff of one file; a secret's file shows only that it changes, other text has secrets masked."""
    if entry.secret:
        return ["(a secret: content not shown)"]
    try:
        before, after = old.decode(), entry.content.decode()
    except UnicodeDecodeError:
        return [f"(binary: {len(old)} → {len(entry.content)} bytes)"]
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), entry.path, entry.path, lineterm="", n=2
    )
    return [masker.mask(line) for line in lines]
