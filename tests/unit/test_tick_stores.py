"""The tick against a store over HTTP that counts, copies to a second repository, and reading back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tick_world import Host, box, prepared, repository, sqlite_file

from understudy.agent import copies, lock, prepare, verify
from understudy.agent.repo import snapshots

__all__ = ["box", "prepared"]


class Store:
    """``rclone serve restic`` on a folder; it notes every request."""

    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log

    def requests(self) -> list[str]:
        return [
            line
            for line in self.log.read_text().splitlines()
            if re.search(r"\b(GET|HEAD|POST|PUT|DELETE) /", line)
        ]


@contextlib.contextmanager
def served(folder: Path, log: Path, *flags: str) -> Iterator[Store]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    counted = CountingProxy(port, log)
    program = shutil.which("rclone")
    assert program, "rclone is not on PATH"
    with open(f"{log}.rclone", "wb") as stream:
        child = subprocess.Popen(
            [program, "serve", "restic", "--addr", f"127.0.0.1:{port}", "--config", "", *flags, str(folder)],
            stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        with counted as url:
            yield Store(url, log)
    finally:
        child.terminate()
        child.wait(10)


class CountingProxy:
    """Passes HTTP on and writes each request's first line to a file."""

    def __init__(self, port: int, log: Path) -> None:
        self.port, self.log = port, log

    def __enter__(self) -> str:
        import http.client
        import threading
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with open(proxy.log, "a") as stream:
                    stream.write(f"{self.command} {self.path} {len(body)}\n")
                onward = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
                onward.request(self.command, self.path, body, dict(self.headers))
                answer = onward.getresponse()
                content = answer.read()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                self.wfile.write(content)
                onward.close()

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = pass_on

            def log_message(self, *arguments: Any) -> None:
                pass

        self.log.write_text("")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_an_idle_tick_takes_at_most_fifteen_requests_and_sends_only_its_snapshot(
    box: Host, tmp_path: Path
) -> None:
    box.services["a"]["databases"] = [
        {"name": "notes", "kind": "sqlite", "mount": "files/data", "path": "notes.db"}
    ]
    sqlite_file(box.at("/srv/a/data/notes.db"), 100)
    with served(box.at("/store/near"), tmp_path / "log", "--append-only") as store:
        box.repositories = {"near": repository(f"rest:{store.url}/")}
        for _ in range(2):
            assert "error" not in box.tick()
        before = len(store.requests())
        assert "error" not in box.tick()
        idle = store.requests()[before:]
    posts = [line for line in idle if line.startswith("POST")]
    print("\n".join(idle))
    assert len(idle) <= 15
    assert sorted(line.split()[1].split("/")[-2] for line in posts) == ["locks", "snapshots"]
    assert sum(int(line.split()[2]) for line in posts) < 2000


def test_a_clock_that_is_off_is_said_and_the_snapshot_carries_the_store_s_time(
    box: Host, tmp_path: Path
) -> None:
    with served(box.at("/store/near"), tmp_path / "log") as store:
        box.repositories = {"near": repository(f"rest:{store.url}/")}
        box.write("/var/lib/understudy/clock-offset", str(365 * 86400))
        reply = box.tick()
        assert "error" not in reply and abs(reply["clock_off"] - 365 * 86400) < 5
        assert "s ahead of the store's" in reply["warnings"][0]
        [snapshot] = box.snapshots()
        assert abs(snapshots._seconds(snapshot["time"]) - time.time()) < 60
        box.at("/var/lib/understudy/clock-offset").unlink()
        assert box.tick()["warnings"] == []


def prepared_pair(box: Host) -> None:
    box.repositories["drawer"] = repository("/store/drawer", tiers=[], copy_from="near")
    box.at("/store/drawer").mkdir(parents=True)
    assert "error" not in box.prepare()


def test_copies_keep_their_tags_and_the_same_cutting_of_files(box: Host) -> None:
    prepared_pair(box)
    box.write("/srv/a/data/big", os.urandom(3_000_000))
    box.tick()
    box.write("/srv/a/data/f1", "changed")
    box.tick()
    reply = copies.run({}, box.root)
    assert reply["repositories"][0]["ok"] and reply["repositories"][0]["copied"] == 1, "of a day the last"
    [copied] = box.snapshots("/store/drawer/rest")
    assert "seq:2" in copied["tags"] and "service:a" in copied["tags"] and copied["hostname"] == "box"
    assert copies.run({}, box.root)["repositories"][0]["copied"] == 0
    blobs = [
        json.loads(box.restic("cat", "config", store=f"/store/{name}/rest"))["chunker_polynomial"]
        for name in ("near", "drawer")
    ]
    assert blobs[0] == blobs[1]
    out = box.restored(copied["id"], "/store/drawer/rest")
    assert (out / "a/data/files/data/f1").read_text() == "changed"
    assert box.records("copy")[1]["copied"] == 1
    # A tick does not write it, and whoever asks is told how it is filled.
    assert {row["repository"] for row in box.tick()["services"]} == {"near"}


def test_what_a_copy_has_forgotten_is_not_copied_again() -> None:
    def shot(seq: int, day: int, *services: str) -> snapshots.Snapshot:
        return snapshots.Snapshot(
            f"{seq:064x}", "h", day * 86400.0 + seq, (), "g", "t", 1, seq, services, (), ()
        )

    source = [
        shot(1, 0, "a", "b"),
        shot(2, 0, "a", "b"),
        shot(3, 1, "a", "b"),
        shot(4, 2, "b"),
        shot(5, 2, "a", "b"),
        shot(6, 2, "a"),
    ]
    assert [s.seq for s in copies.wanted(source, [])] == [2, 3, 5, 6]
    assert [s.seq for s in copies.wanted(source, [source[2]])] == [5, 6]
    assert copies.wanted(source, [source[4], source[5]]) == []


def test_prepare_can_be_repeated_and_does_not_make_what_is_there(box: Host) -> None:
    prepared_pair(box)
    assert [row["state"] for row in prepare.run({}, box.root)["repositories"]] == ["there", "there"]
    assert len(box.records("init")) == 2


def damaged(box: Host) -> str:
    """Flip bytes in the pack that holds the file ``big`` of service a."""
    pack = max(
        (p for p in box.at("/store/near/rest/data").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(pack.read_bytes())
    content[1000:1100] = bytes(100)
    pack.chmod(0o600)
    pack.write_bytes(content)
    return pack.name


def test_b17_reading_back_finds_damage_and_names_the_services_it_hits(box: Host) -> None:
    box.write("/srv/a/data/big", os.urandom(2_000_000))
    box.tick()
    box.settings["verify_parts"] = 2
    box.write_plan()
    parts = [verify.run({}, box.root)["repositories"][0] for _ in range(3)]
    assert [row["part"] for row in parts] == ["1/2", "2/2", "1/2"] and all(row["ok"] for row in parts)
    pack = damaged(box)
    found = [verify.run({}, box.root) for _ in range(2)]
    bad = [reply for reply in found if "error" in reply]
    assert len(bad) == 1, "the part that holds it, and that alone"
    row = bad[0]["repositories"][0]
    # Small files of both lie in the same pack.
    assert row["packs"] == [pack] and "/a/data/files/data/big" in row["services"]["a"]
    assert "services hit: a" in bad[0]["error"]
    record = next(r for r in box.records("verify") if not r["ok"])
    assert record["group"] == "rest" and record["services"] == row["services"]


def test_a_missing_pack_is_damage_too(box: Host) -> None:
    box.write("/srv/b/data/big", os.urandom(2_000_000))
    box.tick()
    box.settings["verify_parts"] = 1
    pack = max(
        (p for p in box.at("/store/near/rest/data").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    pack.unlink()
    box.write_plan()
    reply = verify.run({}, box.root)
    row = reply["repositories"][0]
    assert row["packs"] == [pack.name] and "/b/data/files/data/big" in row["services"]["b"]


def test_parts_cover_everything_in_turn() -> None:
    counter, seen = 0, []
    for _ in range(12):
        counter = verify.next_part(counter, 12)
        seen.append(counter)
    assert seen == list(range(1, 13)) and verify.next_part(12, 12) == 1
    assert verify.next_part(11, 4) == 4, "fewer parts than before still gives one of them"


def test_no_verify_or_copy_waits_for_a_tick(box: Host) -> None:
    box.tick()
    box.write_plan()
    with lock.exclusive(box.root, "data", "backup critical", 0, lambda line: None):
        assert "error" not in verify.run({"lock_wait": 0}, box.root)
