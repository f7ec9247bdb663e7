"""Exact command lines of rclone and rsync, and what is read from their words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from understudy.agent.copying import rclone, rsync
from understudy.agent.copying.work import Work
from understudy.agent.data.plan import CopyJob
from understudy.agent.root import Root

BASE = [
    "rclone", "--config=/run/c", "--links", "--ask-password=false", "--retries=3", "--low-level-retries=10",
    "--contimeout=60s", "--timeout=5m",
]  # fmt: skip
TALK = ["--use-json-log", "--verbose", "--stats=1m", "--stats-log-level=NOTICE"]
NOW = "2026-11-24T030000Z"


def work(**job: Any) -> Work:
    given = {"name": "old", "source": "/mnt/ssd/backups", "to": "b2:bucket/files", **job}
    return Work(Root(), CopyJob(**given), "/proc/1/fd/3", lambda: None, 0.0)


def test_a_copy_by_rclone_keeps_what_it_replaces_beside_the_destination() -> None:
    job = work(exclude=("*.tmp",), limit="4M", fast_list=True)
    assert rclone.copying(job, "/run/c", NOW) == [
        *BASE, "copy", *TALK, "--transfers=4", "--checkers=8", "--fast-list", "--bwlimit=4M",
        "--exclude=/.understudy-mount", "--exclude=*.tmp", f"--backup-dir=b2:bucket/.history/old/{NOW}/",
        ".", "b2:bucket/files/",
    ]  # fmt: skip


def test_files_that_have_gone_are_moved_by_name_and_no_other_way() -> None:
    assert rclone.removing(work(), "/run/c", NOW, "/run/understudy/names") == [
        *BASE, "move", *TALK, "--transfers=4", "--no-traverse", "--files-from-raw=/run/understudy/names",
        "b2:bucket/files/", f"b2:bucket/.history/old/{NOW}/",
    ]  # fmt: skip


def test_a_list_asks_for_no_single_file() -> None:
    assert rclone.listing("/run/c", "b2:bucket/files/", ["*.tmp"], True) == [
        *BASE, "lsjson", "--recursive", "--files-only", "--no-modtime", "--no-mimetype", "--fast-list",
        "--exclude=/.understudy-mount", "--exclude=*.tmp", "b2:bucket/files/",
    ]  # fmt: skip


def test_an_expired_history_is_hidden_not_purged_with_its_versions() -> None:
    place = f"b2:bucket/.history/old/{NOW}/"
    assert rclone.emptying("/run/c", place, True) == [[*BASE, "delete", "--rmdirs", place]]
    assert rclone.emptying("/run/c", place, False)[1] == [*BASE, "rmdir", place]


@pytest.mark.parametrize(
    ("to", "found"),
    [
        ("b2:bucket/files", "b2:bucket/.history/old"),
        ("usb:/mnt/usb/copies/files", "usb:/mnt/usb/copies/.history/old"),
        ("sealed:files", "sealed:.history/old"),
    ],
)
def test_the_history_is_never_inside_the_destination(to: str, found: str) -> None:
    assert rclone.history(to, "old") == found and not found.startswith(f"{to}/")


def test_names_are_the_same_however_their_accents_are_written() -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert rclone.gone([composed, "a"], [apart, "a", "b", "a/b"]) == ["a/b", "b"]


def test_what_stands_in_the_way_goes_before_the_copy() -> None:
    assert rclone.in_the_way(["a", "b/c/d", "e"], ["a/x", "b", "f"]) == ["a", "b/c/d"]


def test_the_reason_names_the_file_and_counts_the_rest() -> None:
    lines = [
        '{"level":"error","msg":"Failed to copy: permission denied","object":"x/y"}',
        '{"level":"error","msg":"Attempt 1/3 failed with 2 errors and: permission denied"}',
        '{"level":"error","msg":"Failed to copy: permission denied","object":"x/y"}',
        *(json.dumps({"level": "error", "msg": "no", "object": name}) for name in "abc"),
        "2026/11/24 11:47:20 Failed to sync: permission denied",
    ]
    assert rclone.why(lines) == "x/y: Failed to copy: permission denied / a: no / b: no (and 1 more)"
    assert rclone.why(["2026/11/24 11:49:28 ERROR : : error listing: gone"]) == "error listing: gone"
    assert rclone.why([]) == "no words"


BACKUP = ["--backup", f"--backup-dir=.history/media/{NOW}"]
SSH = (
    "ssh -F none -i /run/k -p 2222 -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes "
    "-o UserKnownHostsFile=/run/h -o ConnectTimeout=30 -o ServerAliveInterval=30 -o ServerAliveCountMax=10"
)


def test_the_transport_asks_nothing_and_trusts_one_key() -> None:
    assert rsync.shell("/run/k", "/run/h", 2222) == SSH


@pytest.mark.parametrize(
    ("mode", "dry", "differs"),
    [
        ("sync", False, ["--delete-after", "--max-delete=50", *BACKUP]),
        ("sync", True, ["--delete-after", "--dry-run"]),
        ("copy", False, BACKUP),
    ],
)
def test_rsync_keeps_owners_links_and_what_it_replaces(mode: str, dry: bool, differs: list[str]) -> None:
    job = work(name="media", to="mirror@finn:/", mode=mode, exclude=("/cache/",), limit="4M", tool="rsync")
    assert rsync.sending(job, SSH, NOW, 50, dry) == [
        "rsync", "--timeout=600", "-e", SSH, "-aHAX", "--numeric-ids", "--partial-dir=.understudy-partial",
        "--itemize-changes", "--stats", "--no-human-readable", *differs,
        "--exclude=/.understudy-mount", "--exclude=/.history/", "--exclude=.understudy-partial/",
        "--exclude=/cache/", "--bwlimit=4M", "./", "mirror@finn:/",
    ]  # fmt: skip


def test_expired_histories_are_removed_by_name_through_a_key_that_may_only_write() -> None:
    assert rsync.forgetting(SSH, "mirror@finn:/", "media", [NOW]) == [
        "rsync", "--timeout=600", "-e", SSH, "--recursive", "--mkpath", "--delete", f"--include=/{NOW}/",
        f"--include=/{NOW}/**", "--exclude=*", "./", "mirror@finn:/.history/media/",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        (".f          .understudy-mount\n", True),
        ("<f..t...... .understudy-mount\n", True),
        ("<f+++++++++ .understudy-mount\n", False),
        ("created directory /mnt/x\n<f+++++++++ .understudy-mount\n", False),
        ("", False),
    ],
)
def test_the_marker_is_there_when_rsync_would_not_create_it(listed: str, there: bool) -> None:
    assert rsync.is_there(listed) is there


STATISTICS = """
<f.st...... f1
*deleting   f29
*deleting   sub/

Number of files: 24 (reg: 21, dir: 2, link: 1)
Number of created files: 0
Number of deleted files: 2 (reg: 1, dir: 1)
Number of regular files transferred: 10
Total file size: 193 bytes
Total transferred file size: 121 bytes
"""


def test_rsyncs_statistics_are_read_and_their_lack_is_an_error() -> None:
    assert rsync.numbers(STATISTICS) == {"files": 22, "bytes": 193, "changed": 10, "sent": 121, "deleted": 2}
    assert rsync.numbers(STATISTICS.replace("24 (reg: 21, dir: 2, link: 1)", "1 (dir: 1)"))["files"] == 0
    with pytest.raises(ValueError, match="Number of files"):
        rsync.numbers("*deleting   f29\n")
