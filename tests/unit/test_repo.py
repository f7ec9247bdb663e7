"""The restic seam: argument lists to the letter, credentials in files alone, each way to fail in its own words."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tick_world import Host, box, prepared, repository

from understudy.agent.data import namespace
from understudy.agent.data import plan as plans
from understudy.agent.errors import AgentError
from understudy.agent.repo import (
    checkup,
    commands,
    disks,
    restic,
    snapshots,
    store,
)
from understudy.agent.repo import (
    repository as repositories,
)
from understudy.agent.root import Root

__all__ = ["box", "prepared"]

WANTED = commands.Backup(
    "box", "rest", "critical", 3, 17, ("a", "b"), ("c",), "f" * 64, "/run/x", 1767323045.9
)


def test_backup_is_asked_exactly_so() -> None:
    assert commands.backup(WANTED) == [
        "backup", "--json", "--verbose=2", "--no-scan", "--host", "box",
        "--tag", "understudy", "--tag", "group:rest", "--tag", "tier:critical", "--tag", "epoch:3", "--tag", "seq:17",
        "--tag", "service:a", "--tag", "service:b", "--tag", "failed:c",
        "--parent", "f" * 64, "--retry-lock", "5m", "--exclude-file", "/run/x", "--time", "2026-01-02 03:04:05",
        "--", "a", "b",
    ]  # fmt: skip


def test_the_other_questions_are_asked_exactly_so() -> None:
    source = ("/run/r", "/run/p")
    assert commands.snapshots() == ["snapshots", "--json", "--no-lock"]
    assert commands.init() == ["init", "--json", "--repository-version", "2"]
    assert commands.init(source) == [
        *commands.init(), "--copy-chunker-params", "--from-repository-file", "/run/r", "--from-password-file", "/run/p",
    ]  # fmt: skip
    assert commands.copy(source, ["1", "2"]) == [
        "copy", "--json", "--from-repository-file", "/run/r", "--from-password-file", "/run/p",
        "--retry-lock", "5m", "--", "1", "2",
    ]  # fmt: skip
    assert commands.check(3, 12) == ["check", "--json", "--no-lock", "--read-data-subset=3/12"]
    assert commands.find("pack", ["p"], ["s"]) == [
        "find", "--json", "--no-lock", "--no-cache", "--pack", "--snapshot", "s", "--", "p",
    ]  # fmt: skip


def opened(box: Host, url: str, credentials: dict[str, str], **more: Any) -> restic.Repo:
    for name, content in {
        "restic": "pw",
        "aws": "[default]",
        "rest": "me:p@ss/word",
        "key": "K",
        "hosts": "H",
        "vars": "B2_KEY=s3cr3t\n",
    }.items():
        box.write(f"/etc/understudy/secrets/backup/{name}", content, 0o600)
    box.repositories = {
        "r": {"url": url, "tiers": ["critical"], "credentials": {"password": "restic", **credentials}, **more}
    }
    box.write_plan()
    return repositories.open(box.root, box.plan, "r", "rest")


def secret(box: Host, name: str) -> str:
    return box.root.at(f"/etc/understudy/secrets/backup/{name}")


def test_secrets_go_by_files_never_by_arguments_and_environment(box: Host) -> None:
    repo = opened(box, "rest:https://store.example:8000/me", {"rest": "rest"})
    file = Path(repo.env["RESTIC_REPOSITORY_FILE"])
    assert file.read_text() == "rest:https://me:p%40ss%2Fword@store.example:8000/me/rest"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "p@ss" not in json.dumps([repo.options, repo.env, repo.where]) and "p%40ss" not in json.dumps(
        [repo.options, repo.env, repo.where]
    )
    assert repo.where == "rest:https://store.example:8000/me/rest"
    assert repo.env["RESTIC_PASSWORD_FILE"] == secret(box, "restic")
    assert repo.env["RESTIC_PROGRESS_FPS"] == "0.0166" and "RESTIC_PASSWORD" not in repo.env


def test_s3_takes_its_login_from_a_file_and_options_from_the_plan(box: Host) -> None:
    repo = opened(
        box,
        "s3:https://s3.example/bucket",
        {"aws": "aws"},
        options=["s3.region=eu"],
        limit_upload=500,
        limit_download=900,
    )
    assert repo.env["AWS_SHARED_CREDENTIALS_FILE"] == secret(box, "aws")
    assert repo.options == ("-o", "s3.region=eu", "--limit-upload", "500", "--limit-download", "900")
    assert Path(repo.env["RESTIC_REPOSITORY_FILE"]).read_text() == "s3:https://s3.example/bucket/rest"


def test_sftp_and_append_only_rclone_trust_only_the_known_host(box: Host) -> None:
    flags = (
        f"-i {secret(box, 'key')} -o IdentitiesOnly=yes -o UserKnownHostsFile={secret(box, 'hosts')}"
        " -o StrictHostKeyChecking=yes -o BatchMode=yes -o ServerAliveInterval=60 -o ServerAliveCountMax=4"
    )
    known = {"ssh_key": "key", "known_hosts": "hosts"}
    assert opened(box, "sftp:me@host:/repo", known).options == ("-o", f"sftp.args={flags}")
    assert opened(box, "sftp:me@host:/repo", known, options=["sftp.args=-p 23"]).options == (
        "-o",
        "sftp.args=-p 23",
    )
    repo = opened(box, "rclone:box", known, options=["rclone.program=ssh me@rsync.example rclone"])
    assert repo.options == ("-o", f"rclone.program=ssh {flags} me@rsync.example rclone")


def test_stores_known_only_by_environment_get_it_and_it_is_redacted(box: Host) -> None:
    repo = opened(box, "b2:bucket:path", {"environment": "vars"})
    assert repo.env["B2_KEY"] == "s3cr3t" and "s3cr3t" in repo.secrets


def test_a_secret_in_what_restic_says_is_masked(box: Host, tmp_path: Path) -> None:
    program = tmp_path / "restic"
    program.write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo "restic 0.18.0 x" && exit\ncat "$RESTIC_REPOSITORY_FILE" >&2; exit 1\n'
    )
    program.chmod(0o755)
    box.settings["restic"] = str(program)
    repo = opened(box, "rest:https://store.example/", {"rest": "rest"})
    with pytest.raises(restic.ResticError) as caught:
        restic.run(repo, ["snapshots"], 10)
    assert (
        "***@store.example" in caught.value.sentence
        and "ss%2Fword" not in caught.value.sentence + caught.value.result.err
    )


@pytest.mark.parametrize(("code", "kind"), [(1, "failed"), (2, "failed"), (3, "incomplete"), (10, "no-repository"), (11, "locked"),
                                             (12, "password"), (99, "failed"), (130, "interrupted")])  # fmt: skip
def test_every_exit_status_but_zero_is_a_failure_of_its_kind(
    box: Host, tmp_path: Path, code: int, kind: str
) -> None:
    program = tmp_path / "restic"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = version ] && echo "restic 0.18.0 x" && exit\necho oops >&2; exit {code}\n'
    )
    program.chmod(0o755)
    box.settings["restic"] = str(program)
    with pytest.raises(restic.ResticError) as caught:
        restic.run(opened(box, "/store/near", {}), ["backup"], 10)
    assert caught.value.kind == kind and "r" in caught.value.sentence


def test_a_hanging_restic_is_ended_with_its_children(box: Host, tmp_path: Path) -> None:
    program, mark = tmp_path / "restic", tmp_path / "alive"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = version ] && echo "restic 0.18.0 x" && exit\n(sleep 3; touch {mark}) & sleep 30\n'
    )
    program.chmod(0o755)
    box.settings["restic"] = str(program)
    begun = time.monotonic()
    with pytest.raises(restic.ResticError, match="took longer than 0 s") as caught:
        restic.run(opened(box, "/store/near", {}), ["backup"], 0.5)
    assert caught.value.kind == "interrupted" and time.monotonic() - begun < 3
    time.sleep(max(0, 3.5 - (time.monotonic() - begun)))
    assert not mark.exists()


def test_an_old_or_missing_restic_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "restic"
    old.write_text("#!/bin/sh\necho restic 0.16.4 compiled with go\n")
    old.chmod(0o755)
    with pytest.raises(AgentError, match=r"is restic 0\.16; at least 0\.17 is needed"):
        restic.program(str(old))
    own = tmp_path / "own"
    own.write_text("#!/bin/sh\necho restic 0.18.0 compiled with go\n")
    own.chmod(0o755)
    assert restic.program("", str(own)) == str(own)
    assert restic.program("", "/nowhere") == shutil.which("restic")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(AgentError, match="restic is not installed"):
        restic.program("", "/nowhere")


def test_the_real_restic_ends_in_our_kinds(box: Host) -> None:
    box.write_plan()
    repo = repositories.open(box.root, box.plan, "near", "rest")
    assert snapshots.listed(repo) == []
    with pytest.raises(AgentError) as caught:
        snapshots.listed(repositories.open(box.root, box.plan, "near", "nothing"))
    assert caught.value.kind == "no-repository" and "understudy repo init" in caught.value.sentence
    box.write("/etc/understudy/secrets/backup/restic", "wrong")
    with pytest.raises(AgentError) as caught:
        snapshots.listed(repo)
    assert caught.value.kind == "password"
    box.at("/etc/understudy/secrets/backup/restic").unlink()
    with pytest.raises(AgentError, match="credential 'restic' is not on this host"):
        repositories.open(box.root, box.plan, "near", "rest")


def shot(
    number: int,
    epoch: int,
    seq: int,
    *services: str,
    at: float = 0,
    host: str = "h",
    failed: tuple[str, ...] = (),
) -> snapshots.Snapshot:
    return snapshots.Snapshot(f"{number:064x}", host, at, (), "g", "t", epoch, seq, services, failed, ())


def test_the_order_is_epoch_and_sequence_and_a_clock_a_year_ahead_wins_nothing() -> None:
    found = [
        shot(1, 1, 9, "a", at=9e9),
        shot(2, 2, 3, "a", at=200),
        shot(3, 2, 4, "a", "b", at=100),
        shot(4, 2, 5, "b", at=300),
    ]
    assert snapshots.choose(found, "a").seq == 4
    assert snapshots.choose(found, "b").seq == 5
    assert snapshots.choose(found, "a", at=250).seq == 4
    assert snapshots.choose(found, "b", at=150).seq == 4
    assert snapshots.choose(found, "a", id=f"{2:064x}").seq == 3
    for arguments, words in (
        (("c",), "no snapshot holds c"), (("b", 50.0), "the first is from 1970-01-01 00:01:40"), (("a", None, "00"), "begins 4 snapshots"),
        (("a", None, "ff"), "there is no snapshot ff"), (("a", None, f"{4:064x}"), "does not hold a; it holds b"),
    ):  # fmt: skip
        with pytest.raises(AgentError, match=words) as caught:
            snapshots.choose(found, *arguments)  # type: ignore[arg-type]
        assert caught.value.kind == "no-snapshot"


def test_a_service_its_own_tick_calls_failed_is_not_taken_from_the_torn_snapshot() -> None:
    found = snapshots.untorn(
        [shot(2, 1, 2, "a", "b"), shot(3, 1, 2, "b", failed=("a",)), shot(1, 1, 1, "a", "b")]
    )
    assert [s.services for s in found] == [("a", "b"), ("b",), ("b",)]
    assert snapshots.choose(found, "a").seq == 1


def test_tags_are_parsed_and_strangers_snapshots_passed_over() -> None:
    raw = {"id": "x", "time": "2026-01-02T03:04:05.5+01:00", "hostname": "h", "paths": ["/p"], "tags": WANTED.tags,
           "summary": {"total_files_processed": 7, "total_bytes_processed": 9}}  # fmt: skip
    found = snapshots.parse(raw)
    assert found and (found.group, found.tier, found.order, found.services, found.failed) == (
        "rest",
        "critical",
        (3, 17),
        ("a", "b"),
        ("c",),
    )
    assert found.time == 1767319445.5 and (found.files, found.bytes) == (7, 9)
    assert (
        snapshots.parse({**raw, "tags": None}) is None
        and snapshots.parse({**raw, "tags": ["understudy"]}) is None
    )


@contextlib.contextmanager
def answering(headers: dict[str, str]) -> Iterator[int]:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(403)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_the_store_s_clock_is_read_from_any_answer(box: Host) -> None:
    with answering({"Date": "Fri, 02 Jan 2026 03:04:05 GMT"}) as port:
        assert store.date(opened(box, f"rest:http://127.0.0.1:{port}/x", {})) == 1767323045
        assert store.date(opened(box, f"s3:http://127.0.0.1:{port}/x", {})) == 1767323045
    with answering({}) as port:
        assert store.date(opened(box, f"rest:http://127.0.0.1:{port}/x", {})) is None
    assert store.date(opened(box, "/store/near", {})) is None
    assert store.date(opened(box, "sftp:me@host:/x", {})) is None
    with pytest.raises(AgentError, match="does not answer: connection refused"):
        store.date(opened(box, "rest:http://127.0.0.1:9/", {}))
    assert [p.geturl() if (p := store.place(a)) else None for a in ("s3:s3.example/b", "s3:http://h:1/b", "b2:x")] == [
        "https://s3.example/b", "http://h:1/b", None,
    ]  # fmt: skip


def test_a_copy_takes_over_the_login_that_only_its_source_needs(box: Host) -> None:
    one = opened(box, "s3:https://one.example/b", {"aws": "aws"})
    local = opened(box, "/store/near", {}, limit_upload=5)
    both, read = repositories.paired(local, one)
    assert both.env["AWS_SHARED_CREDENTIALS_FILE"] == secret(box, "aws") and read == one
    assert both.env["RESTIC_REPOSITORY_FILE"] == local.env["RESTIC_REPOSITORY_FILE"]


def test_packs_are_named_from_the_summary_and_from_what_is_said() -> None:
    one, two = "a" * 64, "b" * 64
    result = restic.Result(
        1,
        {"broken_packs": [one]},
        [],
        [],
        [],
        f"error for pack {two[:8]}:\npack {two} is damaged\ntree {'c' * 64}, pack {'d' * 64}",
    )
    assert checkup.damaged_packs(result) == [one, two]


# ---- disks


def loop_devices() -> bool:
    return (
        os.access("/dev/loop-control", os.W_OK)
        and shutil.which("mkfs.ext4") is not None
        and shutil.which("losetup") is not None
    )


@contextlib.contextmanager
def plugged_in(image: Path) -> Iterator[str]:
    device = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def labelled(folder: Path, label: str) -> Path:
    image = folder / label
    with open(image, "wb") as stream:
        stream.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", label, str(image)], check=True)
    return image


@pytest.mark.skipif(not loop_devices(), reason="this machine has no loop devices")
def test_rotating_disks_are_known_by_label_and_mounted_only_while_needed(box: Host, tmp_path: Path) -> None:
    plan = plans.Disk(("usk-one", "usk-two"), "/mnt/usb")
    root = box.root
    one, two, other = (labelled(tmp_path, label) for label in ("usk-one", "usk-two", "usk-other"))
    box.repositories = {
        "usb": repository("/mnt/usb/restic", disk={"labels": ["usk-one", "usk-two"], "mount": "/mnt/usb"})
    }
    box.write_plan()
    with pytest.raises(AgentError, match="plug in the disk usk-one or usk-two") as caught:
        repositories.open(root, box.plan, "usb", "rest")
    assert caught.value.kind == "no-disk"
    with namespace.private_mounts(), plugged_in(two):
        with repositories.attached(root, box.plan, ["usb"]) as missing:
            assert missing == {} and disks.look(root, plan) == disks.Found(True, "usk-two", ("usk-two",))
            assert repositories.open(root, box.plan, "usb", "rest").key == "usb@usk-two"
        assert not disks.look(root, plan).mounted, "what we mounted is unmounted again"
    with namespace.private_mounts(), plugged_in(other) as device, plugged_in(one):
        subprocess.run(["mount", device, root.at("/mnt/usb")], check=True)
        with pytest.raises(
            AgentError, match=r"is mounted at /mnt/usb, which is not the disk usk-one or usk-two"
        ):
            repositories.open(root, box.plan, "usb", "rest")
        subprocess.run(["umount", root.at("/mnt/usb")], check=True)
        subprocess.run(disks.mount_argv(disks.device_of(root, "usk-one"), root.at("/mnt/usb")), check=True)
        with repositories.attached(root, box.plan, ["usb"]):
            pass
        assert disks.look(root, plan).mounted, "what the owner mounted stays"
        subprocess.run(["umount", root.at("/mnt/usb")], check=True)


def test_labels_are_found_through_udev_where_it_is(box: Host) -> None:
    device = box.write("/dev/sdz1")
    link = box.at("/dev/disk/by-label/my\\x20disk")
    link.parent.mkdir(parents=True)
    link.symlink_to(device)
    assert disks.device_of(box.root, "my disk") == str(device)
    assert disks.device_of(box.root, "understudy-nowhere") == ""


# ---- private mounts


def test_private_mounts_are_seen_by_children_and_by_nobody_else(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "inner").mkdir(parents=True)
    (source / "file").write_text("shown")
    target.mkdir()
    outside = threading.Event()
    inside: list[bool] = []
    seen: list[list[str]] = []

    def watch() -> None:
        outside.wait(10)
        seen.append(os.listdir(target))

    watcher = threading.Thread(target=watch)
    watcher.start()
    os.chdir(tmp_path)
    with namespace.private_mounts():
        namespace.bind(str(source), str(target))
        assert subprocess.run(["cat", str(target / "file")], capture_output=True, text=True).stdout == "shown"
        with pytest.raises(OSError, match="Read-only"):
            (target / "file").write_text("x")
        outside.set()
        watcher.join()
        lingering = threading.Thread(target=time.sleep, args=(0.5,))
        lingering.start()
        inside.append(True)
    assert os.listdir(target) == [] and seen == [[]] and os.getcwd() == str(tmp_path)
    lingering.join()
    with pytest.raises(AgentError, match="cannot be bound"), namespace.private_mounts():
        namespace.bind(str(tmp_path / "nothing"), str(target))
    assert Root("/").at("/x") == "/x"
