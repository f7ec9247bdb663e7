"""Which of our packages can go again: those that nothing else on the host depends on."""

from __future__ import annotations

import re
from collections.abc import Iterable

from . import process
from .errors import AgentError

__all__ = ["installed", "kept_by", "purge"]

_TIMEOUT = 600
_FORM = r"${Package}\t${db:Status-Status}\t${Version}\t${Pre-Depends}, ${Depends}\t${Provides}\n"


def installed() -> dict[str, dict[str, str]]:
    """Every installed package: {"version", "depends", "provides"} as dpkg writes them."""
    ended = process.run(["dpkg-query", "--show", f"--showformat={_FORM}"], 60)
    if not ended.ok:
        raise AgentError(f"dpkg-query: {ended.why()}", "io")
    rows = [line.split("\t") for line in ended.out.splitlines()]
    return {
        row[0]: {"version": row[2], "depends": row[3], "provides": row[4]}
        for row in rows
        if len(row) == 5 and row[1] == "installed"
    }


def kept_by(
    packages: dict[str, dict[str, str]], ours: Iterable[str], needed: Iterable[str]
) -> dict[str, str]:
    """Of ``ours`` those that must stay, each with the package that needs it ("" for the ``needed`` themselves).

    An alternative counts as a need: rather one package too many stays than one too few.
    """
    candidates = {name for name in ours if name in packages}
    kept = {name: "" for name in needed if name in candidates}
    waiting = [name for name in packages if name not in candidates or name in kept]
    offers = _offers(packages, candidates)
    while waiting:
        user = waiting.pop()
        for word in _names(packages[user]["depends"]):
            for name in offers.get(word, ()):
                if name not in kept:
                    kept[name] = user
                    waiting.append(name)
    return kept


def _offers(packages: dict[str, dict[str, str]], candidates: set[str]) -> dict[str, list[str]]:
    """Name in somebody's Depends to the candidates that satisfy it."""
    found: dict[str, list[str]] = {}
    for name in candidates:
        for word in (name, *_names(packages[name]["provides"])):
            found.setdefault(word, []).append(name)
    return found


def _names(text: str) -> list[str]:
    """``a (>= 1), b | c:any`` -> a, b, c."""
    words = (re.match(r"[a-z0-9][a-z0-9+.-]*", part.strip()) for part in re.split(r"[,|]", text))
    return [word[0] for word in words if word]


def purge(names: list[str]) -> None:
    """Remove packages with their configuration. Raises AgentError where apt would take anything else along."""
    plan = _apt("--simulate", names)
    going = [line.split()[1] for line in plan.splitlines() if line.startswith(("Purg ", "Remv "))]
    foreign = sorted({name.partition(":")[0] for name in going} - set(names))
    if foreign:
        raise AgentError(f"apt would remove {foreign[0]} too: no package was removed", "refused")
    _apt("--yes", names)


def _apt(option: str, names: list[str]) -> str:
    argv = ["apt-get", option, "-o", "DPkg::Lock::Timeout=300", "purge", "--", *names]
    ended = process.run(argv, _TIMEOUT)
    if not ended.ok:
        raise AgentError(f"apt-get purge: {ended.why()}; run it again when that is mended", "io")
    return ended.out
