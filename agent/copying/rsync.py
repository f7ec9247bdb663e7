"""The seam to rsync: media to another host's disk over SSH, with a key that may only write (docs/jobs.md).

The receiver's forced command (``rrsync -wo FOLDER``) lets nothing be read, so the marker is asked for by a dry run
that would create it, and expired histories are removed by name. The destination is always ``/``, which is FOLDER:
older receivers take --backup-dir relative to the destination, newer ones (3.5) relative to FOLDER; measured.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator

from .. import process
from ..data import credentials
from ..errors import AgentError
from ..root import RUN
from .work import HISTORY, MARKER, Done, Look, Work

__all__ = ["Rsync", "forgetting", "is_there", "marking", "numbers", "sending", "shell"]

PROGRAM = "rsync"
PARTIAL = ".understudy-partial"
VANISHED = 24
SSH_FAILED = 255
_IDLE_SECONDS = 600


def shell(key: str, known_hosts: str, port: int) -> str:
    """The transport: this key, this server, no question and no configuration of anybody's."""
    return shlex.join(
        [
            "ssh", "-F", "none", "-i", key, "-p", str(port), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known_hosts}", "-o", "ConnectTimeout=30",
            "-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=10",
        ]
    )  # fmt: skip


def base(transport: str) -> list[str]:
    """What every call begins with."""
    return [PROGRAM, f"--timeout={_IDLE_SECONDS}", "-e", transport]


def sending(work: Work, transport: str, now: str, most: int, dry: bool = False) -> list[str]:
    """The folder's content to the destination; replaced and gone files move into the history ``now``.

    A dry run has no limit, for it counts, and no history: newer receivers make its folder even then.
    """
    job = work.job
    removal = ["--delete-after"] if job.mode == "sync" else []
    kept = ["--dry-run"] if dry else ["--backup", f"--backup-dir={HISTORY}/{job.name}/{now}"]
    return [
        *base(transport), "-aHAX", "--numeric-ids", f"--partial-dir={PARTIAL}", "--itemize-changes", "--stats",
        "--no-human-readable", *removal, *([f"--max-delete={most}"] if removal and not dry else []), *kept,
        f"--exclude=/{MARKER}", f"--exclude=/{HISTORY}/", f"--exclude={PARTIAL}/",
        *(f"--exclude={pattern}" for pattern in job.exclude), *([f"--bwlimit={job.limit}"] if job.limit else []),
        "./", target(job.to),
    ]  # fmt: skip


def marking(transport: str, to: str) -> list[str]:
    """Ask whether the marker is there: a dry run lists it as new, or as one that exists."""
    return [*base(transport), "--dry-run", "-ii", MARKER, target(to)]


def is_there(listed: str) -> bool:
    """Whether the answer to ``marking`` says that the marker exists."""
    lines = [line for line in listed.splitlines() if line.endswith(f" {MARKER}")]
    return bool(lines) and not any("+++" in line.split()[0] for line in lines)


def forgetting(transport: str, to: str, job: str, stamps: list[str]) -> list[str]:
    """Take these histories and nothing else away: an empty folder is sent over them, all others are excluded."""
    named = [rule for name in stamps for rule in (f"--include=/{name}/", f"--include=/{name}/**")]
    return [
        *base(transport), "--recursive", "--mkpath", "--delete", *named, "--exclude=*",
        "./", f"{target(to)}{HISTORY}/{job}/",
    ]  # fmt: skip


def target(to: str) -> str:
    """The destination as a folder."""
    return f"{to.rstrip('/')}/"


def numbers(text: str) -> dict[str, int]:
    """``files``, ``bytes`` of the source; ``changed``, ``sent`` bytes; ``deleted`` entries.

    Raises ValueError when rsync ended without its statistics.
    """
    return {
        "files": _number(text, r"Number of files: (\d+)") - _folders(text),
        "bytes": _number(text, r"Total file size: (\d+)"),
        "changed": _number(text, r"Number of regular files transferred: (\d+)"),
        "sent": _number(text, r"Total transferred file size: (\d+)"),
        "deleted": sum(1 for line in text.splitlines() if line.startswith("*deleting ")),
    }


def _folders(text: str) -> int:
    match = re.search(r"^Number of files: \d+ \(.*?dir: (\d+)", text, re.MULTILINE)
    return int(match[1]) if match else 0


def _number(text: str, pattern: str) -> int:
    match = re.search(f"^{pattern}", text, re.MULTILINE)
    if match is None:
        raise ValueError(pattern)
    return int(match[1])


class Rsync:
    """One run of a job by rsync."""

    def __init__(self, work: Work) -> None:
        self.work, self.job = work, work.job
        paths = [
            credentials.path(work.root, self.job.credentials[name]) for name in ("ssh_key", "known_hosts")
        ]
        self.transport = shell(paths[0], paths[1], self.job.port)
        self._seen: dict[str, int] = {}

    def marked(self) -> bool:
        """See Tool."""
        with self._scratch() as folder:
            with open(f"{folder}/{MARKER}", "w", encoding="utf-8"):
                pass
            return is_there(self._run(marking(self.transport, self.job.to), folder).out)

    def look(self) -> Look:
        """See Tool."""
        self._seen = self._send("rehearsal", 0, dry=True)
        return Look(self._seen["files"], self._seen["bytes"], self._seen["deleted"])

    def rehearse(self) -> int:
        """See Tool: the look has seen it already."""
        return self._seen["changed"]

    def copy(self, now: str, most: int) -> Done:
        """See Tool."""
        done = self._send(now, most)
        self.work.still_there()
        return Done(done["changed"], done["sent"], done["deleted"])

    def kept(self, known: list[str]) -> list[str]:
        """See Tool: a key that may only write cannot list them."""
        return known

    def forget(self, stamps: list[str]) -> None:
        """See Tool."""
        if stamps:
            with self._scratch() as folder:
                self._run(forgetting(self.transport, self.job.to, self.job.name, stamps), folder)

    def _send(self, now: str, most: int, dry: bool = False) -> dict[str, int]:
        argv = sending(self.work, self.transport, now, most, dry)
        ended = self._run(argv, self.work.folder)
        try:
            return numbers(ended.out)
        except ValueError:
            raise self._failed(ended) from None

    def _run(self, argv: list[str], folder: str) -> process.Finished:
        ended = process.run(argv, self.work.left(), folder)
        if ended.code == VANISHED:  # a file was deleted under its hands: the second look has no such file
            ended = process.run(argv, self.work.left(), folder)
        if ended.code == 124:
            self.work.left()
        if not ended.ok:
            raise self._failed(ended)
        return ended

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        os.makedirs(self.work.root.at(RUN), mode=0o700, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=self.work.root.at(RUN))

    def _failed(self, ended: process.Finished) -> AgentError:
        said = " / ".join(list(dict.fromkeys(_complaints(ended.err)))[:3]) or ended.why()
        if ended.code == SSH_FAILED:
            return AgentError(
                f"{self.job.name}: {self.job.to.partition(':')[0]} does not answer: {said}", "failed"
            )
        return AgentError(f"{self.job.name}: rsync failed with status {ended.code}: {said}", "failed")


def _complaints(text: str) -> Iterator[str]:
    """What rsync says of single files, without its closing line."""
    for line in text.splitlines():
        words = line.strip()
        if words and not words.startswith("rsync error:"):
            yield words.removeprefix("rsync: ")
