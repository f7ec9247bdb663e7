"""The seam to rclone (1.60 or newer): copies to stores and local disks.

``rclone sync`` is not used. Its --max-delete counts, on object stores, every replaced file too (a move there is copy
and delete), and it deletes up to the limit before it stops; both measured with 1.60 and 1.75. So names are compared
first, files are sent by ``copy``, and exactly the counted files are moved into the history by name.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import tempfile
import unicodedata
from collections.abc import Iterable
from typing import Any

from .. import process
from ..data import credentials
from ..errors import AgentError
from ..root import RUN
from ..say import say
from .source import refuse_same_disk
from .work import HISTORY, MARKER, Done, Look, Work

__all__ = [
    "Rclone",
    "base",
    "copying",
    "emptying",
    "filters",
    "folder",
    "gone",
    "heard",
    "history",
    "in_the_way",
    "listing",
    "sizes",
    "why",
]

PROGRAM = "rclone"
LIST_SECONDS = 3600.0
NOT_FOUND = 3
_SENT = re.compile(r"(Multi-thread )?Copied \((new|replaced existing)")
_WOULD_SEND = re.compile(r"Skipped (copy|update)")


def base(config: str) -> list[str]:
    """What every call begins with. Secrets are in the file ``config`` names, never here."""
    return [
        PROGRAM, f"--config={config}", "--links", "--ask-password=false", "--retries=3", "--low-level-retries=10",
        "--contimeout=60s", "--timeout=5m",
    ]  # fmt: skip


def filters(exclude: Iterable[str]) -> list[str]:
    """The owner's patterns, and our marker, which is nobody's file."""
    return [f"--exclude=/{MARKER}", *(f"--exclude={pattern}" for pattern in exclude)]


def listing(config: str, place: str, exclude: Iterable[str], fast: bool) -> list[str]:
    """All files of a place with their sizes; no request for each file."""
    fast_list = ["--fast-list"] if fast else []
    return [
        *base(config), "lsjson", "--recursive", "--files-only", "--no-modtime", "--no-mimetype", *fast_list,
        *filters(exclude), place,
    ]  # fmt: skip


def copying(work: Work, config: str, now: str, dry: bool = False) -> list[str]:
    """Send what is new or differs; what it replaces goes into the history ``now``."""
    job = work.job
    return [
        *base(config), "copy", *_talking(), "--transfers=4", "--checkers=8",
        *(["--fast-list"] if job.fast_list else []), *(["--dry-run"] if dry else []), *_limit(job.limit),
        *filters(job.exclude), f"--backup-dir={history(job.to, job.name)}/{now}/", ".", folder(job.to),
    ]  # fmt: skip


def removing(work: Work, config: str, now: str, names: str) -> list[str]:
    """Move the files that the file ``names`` lists, and no other, into the history ``now``."""
    job = work.job
    return [
        *base(config), "move", *_talking(), "--transfers=4", "--no-traverse", f"--files-from-raw={names}",
        folder(job.to), f"{history(job.to, job.name)}/{now}/",
    ]  # fmt: skip


def listing_history(config: str, place: str, bucket: bool) -> list[str]:
    """Of a bucket its files: some stores go on listing a folder whose files have gone."""
    which = ["--recursive", "--files-only", "--fast-list"] if bucket else ["--dirs-only", "--max-depth=1"]
    return [*base(config), "lsf", *which, place]


def emptying(config: str, place: str, bucket: bool) -> list[list[str]]:
    """The commands that remove a history. Not ``purge``: that removes the older versions of a bucket, too."""
    files = [*base(config), "delete", "--rmdirs", place]
    return [files] if bucket else [files, [*base(config), "rmdir", place]]


def _talking() -> list[str]:
    return ["--use-json-log", "--verbose", "--stats=1m", "--stats-log-level=NOTICE"]


def _limit(limit: str) -> list[str]:
    return [f"--bwlimit={limit}"] if limit else []


def folder(to: str) -> str:
    """The destination, said to be a folder: else rclone asks S3 for a file of that name first, and takes a refusal for one."""
    return f"{to.rstrip('/')}/"


def history(to: str, job: str) -> str:
    """Beside the destination, never inside it: ``b2:bucket/files`` → ``b2:bucket/.history/JOB``."""
    remote, _, path = to.partition(":")
    above = posixpath.dirname(path)
    return f"{remote}:{posixpath.join(above, HISTORY, job)}"


def sizes(text: str) -> dict[str, int]:
    """Path to size, from lsjson. Raises ValueError for a list that is not whole."""
    return {entry["Path"]: int(entry["Size"]) for entry in json.loads(text or "null")}


def gone(source: Iterable[str], target: Iterable[str]) -> list[str]:
    """Names of the destination that the source has no more, however either end writes its accents."""
    here = {unicodedata.normalize("NFC", name) for name in source}
    return sorted(name for name in target if unicodedata.normalize("NFC", name) not in here)


def in_the_way(names: Iterable[str], source: Iterable[str]) -> list[str]:
    """Gone files whose name is a folder of the source now, or whose folder is a file of it."""
    files = set(source)
    folders = {folder for name in files for folder in _above(name)}
    return [name for name in names if name in folders or any(above in files for above in _above(name))]


def _above(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def heard(line: str) -> dict[str, Any]:
    """One line of the JSON log; {} for plain text, which 1.60 mixes in."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def why(lines: Iterable[str], count: int = 3) -> str:
    """The first different errors of a run with their files, or its last words."""
    lines = list(lines)
    found: list[str] = []
    for line in lines:
        entry = heard(line)
        if entry.get("level") == "error" and not str(entry.get("msg")).startswith("Attempt "):
            name = entry.get("object")
            found.append(f"{name}: {entry['msg']}" if name else str(entry["msg"]))
        elif " ERROR : " in line and " ERROR : Attempt " not in line:
            found.append(line.split(" ERROR : ", 1)[1].removeprefix(": "))
    different = list(dict.fromkeys(found))
    more = f" (and {len(different) - count} more)" if len(different) > count else ""
    # 1.60 goes on in indented lines.
    last = next((line for line in reversed(lines) if line.strip() and not line[0].isspace()), "no words")
    return (" / ".join(different[:count]) + more) or str(heard(last).get("msg", last)).strip()


class Rclone:
    """One run of a job by rclone."""

    def __init__(self, work: Work) -> None:
        self.work, self.job = work, work.job
        self.config = credentials.path(work.root, self.job.credentials["config"])
        self._source: dict[str, int] = {}
        self._gone: list[str] = []
        if self.job.local:
            refuse_same_disk(self.job, work.folder, self.job.to.partition(":")[2])

    def marked(self) -> bool:
        """See Tool."""
        argv = [
            *base(self.config),
            "lsf",
            "--files-only",
            "--max-depth=1",
            f"--include=/{MARKER}",
            folder(self.job.to),
        ]
        ended = self._list(argv)
        return MARKER in ended.out.splitlines()

    def look(self) -> Look:
        """See Tool. An unreadable folder of the source is an error here already."""
        self._source = self._sizes(".")
        there = self._sizes(folder(self.job.to)) if self.job.mode == "sync" else {}
        self._gone = gone(self._source, there)
        return Look(len(self._source), sum(self._source.values()), len(self._gone))

    def rehearse(self) -> int:
        """See Tool."""
        ended = self._run(copying(self.work, self.config, "rehearsal", dry=True))
        return sum(1 for line in ended.lines if _WOULD_SEND.match(str(heard(line).get("msg"))))

    def copy(self, now: str, most: int) -> Done:
        """See Tool."""
        if len(self._gone) > most:
            raise AssertionError("refused before a copy begins")
        first = in_the_way(self._gone, self._source)
        self._remove(first, now)
        ended = self._run(copying(self.work, self.config, now))
        sent = [
            str(entry.get("object"))
            for entry in map(heard, ended.lines)
            if _SENT.match(str(entry.get("msg")))
        ]
        self.work.still_there()
        self._remove([name for name in self._gone if name not in set(first)], now)
        return Done(len(sent), sum(self._source.get(name, 0) for name in sent), len(self._gone))

    def kept(self, known: list[str]) -> list[str]:
        """See Tool: the store itself knows."""
        place = f"{history(self.job.to, self.job.name)}/"
        lines = self._list(listing_history(self.config, place, self.job.fast_list)).out.splitlines()
        return sorted({line.split("/", 1)[0] for line in lines})

    def forget(self, stamps: list[str]) -> None:
        """See Tool."""
        for name in stamps:
            place = f"{history(self.job.to, self.job.name)}/{name}/"
            for argv in emptying(self.config, place, self.job.fast_list):
                ended = process.run(argv, self.work.left())
                if ended.code not in (0, NOT_FOUND):
                    raise self._failed(f"could not remove the expired {place}", ended.err.splitlines())

    def _sizes(self, place: str) -> dict[str, int]:
        fast = self.job.fast_list and place != "."
        ended = self._list(listing(self.config, place, self.job.exclude, fast), missing=place != ".")
        try:
            return sizes(ended.out) if ended.ok else {}
        except ValueError:
            raise self._failed(f"gave a broken list of {self._said(place)}", [ended.out[-200:]]) from None

    def _list(self, argv: list[str], missing: bool = True) -> process.Finished:
        """Run what only looks. A place that does not exist yet is empty if ``missing`` says so."""
        ended = process.run(argv, min(LIST_SECONDS, self.work.left()), self.work.folder)
        if ended.ok or (missing and ended.code == NOT_FOUND):
            return ended
        raise self._failed(f"could not list {self._said(argv[-1])}", ended.err.splitlines())

    def _run(self, argv: list[str]) -> process.Finished:
        ended = process.stream(argv, self.work.left(), self._progress, self.work.folder)
        if ended.code == 124:
            self.work.left()
        if not ended.ok:
            raise self._failed("could not copy everything, so nothing was deleted", ended.lines)
        return ended

    def _remove(self, names: list[str], now: str) -> None:
        if not names:
            return
        unspeakable = next((name for name in names if "\n" in name), None)
        if unspeakable is not None:
            raise AgentError(
                f"{self.job.name}: {unspeakable!r} has a line break in its name: remove it by hand"
            )
        os.makedirs(self.work.root.at(RUN), mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=self.work.root.at(RUN), encoding="utf-8", newline="\n"
        ) as list_file:
            list_file.writelines(f"{name}\n" for name in names)
            list_file.flush()
            argv = removing(self.work, self.config, now, list_file.name)
            ended = process.stream(argv, self.work.left(), self._progress)
        if not ended.ok:
            raise self._failed("could not move files that have gone into the history", ended.lines)

    def _said(self, place: str) -> str:
        return self.job.source if place == "." else place

    def _progress(self, line: str) -> None:
        stats = heard(line).get("stats") or {}
        if stats.get("totalBytes", 0) >> 20:
            say(f"{self.job.name}: {stats['bytes'] >> 20} of {stats['totalBytes'] >> 20} MiB")

    def _failed(self, what: str, lines: list[str]) -> AgentError:
        return AgentError(f"{self.job.name}: rclone {what}: {why(lines)}", "failed")
