"""The folder a job copies from: really mounted, and held while the job runs.

The open descriptor makes the kernel refuse an unmount in the middle, which would look like emptiness to the copy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .. import mounts
from ..data.plan import CopyJob
from ..errors import AgentError, because
from ..root import Root

__all__ = ["assert_mounted", "disk_of", "held", "refuse_same_disk"]


@contextlib.contextmanager
def held(root: Root, job: CopyJob) -> Iterator[str]:
    """The path by which the source can be entered while it is held. Raises AgentError when it is not there."""
    assert_mounted(root, job)
    try:
        descriptor = os.open(root.at(job.source), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AgentError(
            f"{job.name}: {job.source} cannot be opened: {because(error)}; nothing was copied", "source"
        ) from error
    try:
        assert_mounted(root, job)  # between the first look and the opening it may have gone
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def assert_mounted(root: Root, job: CopyJob) -> None:
    """Raises AgentError kind "source" unless the job's mount point is one now."""
    if job.mounted and job.mounted not in mounts.points(root):
        raise AgentError(
            f"{job.name}: nothing is mounted at {job.mounted}; nothing was copied and nothing deleted: mount the disk",
            "source",
        )


def refuse_same_disk(job: CopyJob, source: str, target: str) -> None:
    """A copy on the disk of its original is lost with it. ``source`` and ``target`` are real paths (B14)."""
    if disk_of(source) == disk_of(_nearest(target)):
        raise AgentError(
            f"{job.name}: {target} is on the same disk as {job.source}: name a folder on another one",
            "target",
        )


def disk_of(path: str) -> str:
    """The disk below a path as far as the kernel tells: a partition's whole disk, else the file system's device."""
    number = os.stat(path).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    known = os.path.realpath(f"/sys/dev/block/{device}")
    if not os.path.isdir(known):
        return device
    return os.path.dirname(known) if os.path.exists(f"{known}/partition") else known


def _nearest(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
