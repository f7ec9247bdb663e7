"""A host in a scratch folder with jobs, and a real object store to copy to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.agent import jobs
from understudy.agent.data import ledger
from understudy.agent.root import Root

KEYS = ("KEY-ID-OF-TEST", "secret-key-of-test")
JOB = {
    "source": "/mnt/ssd/backups",
    "to": "b2:bucket/files",
    "fast_list": True,
    "credentials": {"config": "rclone.conf"},
}


@contextmanager
def store(folder: Path) -> Iterator[str]:
    """rclone's own S3 server over a folder; yields its address."""
    (folder / "bucket").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = ["rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(KEYS)]
    argv += ["--config", os.devnull, "--vfs-cache-mode", "off", str(folder)]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert server.poll() is None, "rclone serve s3 ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("rclone serve s3 does not listen")


@dataclass
class JobsWorld:
    """``base`` stands for "/"; ``bucket`` is what the store holds."""

    base: Path
    bucket: Path
    address: str
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        secrets = self.base / "etc/understudy/secrets/backup"
        secrets.mkdir(parents=True)
        lines = [
            "[b2]",
            "type = s3",
            "provider = Other",
            f"endpoint = {self.address}",
            "force_path_style = true",
        ]
        lines += [
            f"access_key_id = {KEYS[0]}",
            f"secret_access_key = {KEYS[1]}",
            "",
            "[usb]",
            "type = local",
            "",
        ]
        (secrets / "rclone.conf").write_text("\n".join(lines))
        self.source.mkdir(parents=True)
        self.declare("old-backups")

    @property
    def root(self) -> Root:
        return Root(str(self.base))

    @property
    def source(self) -> Path:
        return self.base / "mnt/ssd/backups"

    @property
    def files(self) -> Path:
        return self.bucket / "files"

    def declare(self, name: str, **changes: Any) -> None:
        """Write the plan with this job, too."""
        self.jobs[name] = {**JOB, **changes}
        plan = {
            "format": 1,
            "host": "box",
            "services": {},
            "repositories": {},
            "tiers": {},
            "jobs": self.jobs,
        }
        (self.base / "etc/understudy/backup.json").write_text(json.dumps(plan))

    def fill(self, **files: str) -> None:
        """Files of the source by name."""
        for name, text in files.items():
            (self.source / name).write_text(text)

    def fill_many(self, count: int, text: str = "v1") -> None:
        self.fill(**{f"f{number:03}": f"{text} {number}" for number in range(count)})

    def run(self, *names: str, **asked: Any) -> dict[str, Any]:
        """The reply of the verb."""
        return jobs.run({"jobs": list(names), **asked}, self.root)

    def good(self, **asked: Any) -> dict[str, Any]:
        """The row of the one job, which must succeed."""
        reply = self.run("old-backups", **asked)
        assert "error" not in reply, reply
        return dict(reply["jobs"][0])

    def bad(self, **asked: Any) -> str:
        """The sentence of the one job, which must fail."""
        reply = self.run("old-backups", **asked)
        assert reply["jobs"][0]["ok"] is False and reply["kind"] == "failed"
        return str(reply["error"])

    def there(self) -> dict[str, str]:
        """What the destination holds."""
        return contents(self.files)

    def kept(self, job: str = "old-backups") -> dict[str, str]:
        """What the history holds, by name, whenever it went there; the newest of each."""
        folder = self.bucket / ".history" / job
        runs = sorted(folder.iterdir()) if folder.exists() else []
        return {name: text for run in runs for name, text in contents(run).items()}

    def records(self) -> list[dict[str, Any]]:
        """The ledger's jobs, newest first."""
        return [record for record in ledger.records(self.root) if record["kind"] == "job"]


def contents(folder: Path) -> dict[str, str]:
    """Relative path to text of every file below."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
