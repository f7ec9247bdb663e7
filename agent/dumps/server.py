"""A database server in a container: finding it, and programs inside it that end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from ..data import engine, execs
from ..data.plan import Database
from ..errors import AgentError
from ..process import Finished

__all__ = ["GRACE", "Server", "container", "limited", "lines", "run", "said"]

# What a program inside may overrun its own limit by, before its docker client is ended too.
GRACE = 15.0

# A docker client that ends leaves its program running in the container, holding locks and a snapshot; so each
# program carries a limit of its own. Images without timeout(1) go without.
_LIMIT = 'if command -v timeout >/dev/null; then set -- timeout "$limit" "$@"; fi\nexec "$@"\n'


@dataclass(frozen=True)
class Server:
    """A running database server. ``databases``: name to size in bytes (Redis: db number to keys)."""

    kind: str
    version: str
    databases: dict[str, int] = field(default_factory=dict)


def container(database: Database) -> str:
    """The id of the server's container. Raises AgentError when it does not run."""
    found = engine.container_of(database.project, database.container)
    if found is None:
        raise AgentError(
            f"{database.name}: the {database.kind} server {database.project}/{database.container} does not run: start it",
            "docker",
        )
    return found


def limited(prelude: str, arguments: Sequence[str], argv: Sequence[str], limit: float) -> list[str]:
    """A shell that runs ``prelude`` (which takes ``arguments`` as $1...) and then ``argv``, at most ``limit`` seconds."""
    script = f"{execs.DUE}limit=$1; shift\n{prelude}\n{_LIMIT}"
    return ["sh", "-c", script, "understudy", str(max(1, round(limit))), *arguments, *argv]


def run(
    where: str,
    argv: Sequence[str],
    limit: float,
    *,
    feed: IO[bytes] | None = None,
    into: IO[bytes] | None = None,
) -> Finished:
    """Run what ``limited`` made. Raises Lost."""
    ended = engine.run_in(where, argv, limit + GRACE, feed=feed, into=into, watched=True)
    if ended.lost:
        raise engine.Lost()
    return ended


def lines(out: str) -> list[str]:
    """Lines as the program ended them: not at every character that Python takes for a line's end."""
    return out.removesuffix("\n").split("\n") if out else []


def said(where: str, argv: Sequence[str], limit: float) -> tuple[Finished, str]:
    """Run what ``limited`` made; what it printed, byte for byte (bytes that are no text as surrogates)."""
    with engine.input_of("") as into:
        ended = run(where, argv, limit, into=into)
        into.seek(0)
        return ended, into.read().decode("utf-8", "surrogateescape")
