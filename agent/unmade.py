"""Which declared repositories do not exist yet. What this host has made or written is known without asking a store."""

from __future__ import annotations

from collections.abc import Iterator

from .data import ledger
from .data import state as states
from .data.beside import Later
from .data.plan import Plan
from .errors import AgentError
from .repo import repository, store
from .root import Root

__all__ = ["look"]

_KINDS = ("init", "backup", "copy")


def look(root: Root, plan: Plan) -> list[dict[str, str]]:
    """{"repository", "group", "sentence"} for each that is missing, or of which that cannot be told now."""
    known = set(_known(root, plan))
    groups = list(dict.fromkeys(service.group for service in plan.services.values()))
    asked = {
        (name, group): Later(lambda name=name, group=group: _sentence(root, plan, name, group))  # type: ignore[misc]
        for name in plan.repositories
        for group in groups
        if (name, group) not in known
    }
    found = {pair: later.value() for pair, later in asked.items()}
    return [
        {"repository": name, "group": group, "sentence": sentence}
        for (name, group), sentence in found.items()
        if sentence
    ]


def _known(root: Root, plan: Plan) -> Iterator[tuple[str, str]]:
    for mark in states.load(root).known:
        key, _, group = mark.partition("/")
        yield key.partition("@")[0], group
    for record in ledger.records(root, months=1200):
        if record["kind"] in _KINDS and record.get("ok"):
            yield str(record.get("repository")), str(record.get("group"))


def _sentence(root: Root, plan: Plan, name: str, group: str) -> str:
    from .prepare import identity

    try:
        repo = repository.open(root, plan, name, group)
        store.date(repo)
        if identity(repo):
            return ""
        return f"repository {repo.title} does not exist yet at {repo.where}: `understudy repo init` makes it"
    except AgentError as error:
        return f"whether repository {name}/{group} exists cannot be told: {error.sentence}"
