"""Which jobs copy a place, and whether the copy leaves the machine. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .report import Grade

WHOLE = {
    "restic",
    "borg",
    "borgmatic",
    "kopia",
    "duplicity",
    "rustic",
    "autorestic",
}  # may be given "/" itself
COPYING = {
    *WHOLE,
    "rclone",
    "rsync",
    "tar",
    "cp",
    "scp",
    "zip",
    "sqlite3",
    "tarsnap",
    "aws",
    "b2",
    "gsutil",
    "mc",
    "s3cmd",
}


@dataclass(frozen=True)
class Use:
    """One line of a job that calls a tool."""

    job: str
    tool: str
    paths: tuple[str, ...]
    words: tuple[str, ...]
    to: tuple[str, ...]
    stops: tuple[str, ...]
    broken: str

    @property
    def leaves(self) -> bool:
        """True when it sends something off this machine."""
        return bool(self.to) and self.tool in COPYING


def uses(jobs: Iterable[Mapping[str, Any]], people: Iterable[Mapping[str, Any]]) -> list[Use]:
    """Every use of every job; ``broken`` says why a job cannot start."""
    known = {person["name"]: person["uid"] for person in people}
    return [
        Use(
            name_of(job),
            use["tool"],
            tuple(path.rstrip("/") or "/" for path in use["paths"]),
            tuple(use["words"]),
            tuple(use["to"]),
            tuple(job["stops"]),
            broken(job, known.get(job["owner"])),
        )
        for job in jobs
        for use in job["uses"]
    ]


def name_of(job: Mapping[str, Any]) -> str:
    """How an owner knows a job."""
    started = [*job["starts"], *job["missing"]]
    what = started[0].rsplit("/", 1)[-1] if started else job["file"].rsplit("/", 1)[-1]
    return f"{job['kind']} {what} of {job['owner']}"


def broken(job: Mapping[str, Any], uid: int | None) -> str:
    """Why a job cannot do its work, "" when nothing speaks against it."""
    if job["missing"]:
        return f"it starts {job['missing'][0]}, which does not exist"
    log = job["log"]
    if log and uid and job["kind"] == "cron":
        mode = int(log["mode"], 8)
        if log["uid"] != uid and not mode & 0o022:
            return f"it cannot write its log {log['path']}, so its shell stops before it begins"
    return ""


def grade(path: str, live: Iterable[str], torn: bool, known: list[Use]) -> tuple[Grade, str]:
    """How well a path is kept and why; ``live`` are containers that write to it, ``torn``: it holds a database."""
    found: tuple[Grade, str] = ("lost", "nothing copies it")
    for use in _on(path, known):
        grade, why = _by(use, known)
        if grade == "kept" and torn and not set(live) & set(use.stops):
            grade, why = "weak", f"{why}, but while its database is in use: the copy may be torn"
        if _better(grade, found[0]) or found[1] == "nothing copies it":
            found = (grade, why)
    return found


def grade_database(name: str, known: list[Use]) -> tuple[Grade, str]:
    """How well a database inside a server is kept: by dumps that name it."""
    found: tuple[Grade, str] = ("lost", "no dump names it")
    for use in known:
        if "dump" in use.tool and (
            name in use.words or use.tool.endswith("all") or "--all-databases" in use.words
        ):
            graded = _by(use, known)
            if _better(graded[0], found[0]) or found[1] == "no dump names it":
                found = graded
    return found


def _better(one: Grade, other: Grade) -> bool:
    order = ("lost", "weak", "kept")
    return order.index(one) > order.index(other)


def _on(path: str, known: list[Use]) -> Iterator[Use]:
    for use in known:
        if use.tool in COPYING and any(_covers(source, path, use.tool) for source in use.paths):
            yield use


def _covers(source: str, path: str, tool: str) -> bool:
    if source == "/":
        return tool in WHOLE
    return path == source or path.startswith(f"{source}/")


def _by(use: Use, known: list[Use]) -> tuple[Grade, str]:
    """A use that leaves the machine, or one whose copies another use takes along."""
    if use.broken:
        return "lost", f"{use.job} would copy it ({use.tool}), but {use.broken}"
    if use.leaves:
        return "kept", f"{use.tool} to {use.to[0]} by {use.job}"
    stuck = ""
    for other in known:
        carries = any(_covers(source, path, other.tool) for source in other.paths for path in use.paths)
        if not other.leaves or not carries:
            continue
        if not other.broken:
            return "kept", f"{use.tool} by {use.job}, carried on to {other.to[0]} by {other.job}"
        stuck = f"; {other.job} would carry it on, but {other.broken}"
    return "lost", f"its copy ({use.tool} by {use.job}) stays on this machine{stuck}"
