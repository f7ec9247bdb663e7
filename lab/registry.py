"""An image registry of the lab's own (Debian's docker-registry): hosts that trust it pull from it what they would from Docker Hub.

The prepared hosts have the catalogue's images already; this is for what has to be pulled for real. Two servers share one folder:
images are pushed on loopback, where an engine asks for no certificate, and pulled at the lab's own address.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.facts import Facts
from lab.roots import SUITE
from lab.settings import SCRATCH, Settings
from lab.shell import LabError, run
from lab.storage.daemons import Daemon, stop_all
from lab.storage.place import LOOPBACK, Place, answers, find_place
from lab.tools import FETCH_SECONDS, cache_folder, put_in_place

PROGRAMS = {"docker-registry": "usr/bin/docker-registry", "busybox-static": "usr/bin/busybox"}
PUSH, PULL = 0, 1
CONFIG = """\
version: 0.1
log: {{accesslog: {{disabled: false}}, level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "{address}"}}
"""
DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
COPY www /www
ENTRYPOINT ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"]
"""


@dataclass(frozen=True)
class Registry:
    """One lab's registry, running or not."""

    settings: Settings
    place: Place

    @property
    def address(self) -> str:
        """Where hosts pull."""
        return f"{self.place.outside}:{self.place.port(PULL)}"

    def up(self) -> None:
        """Running afterwards."""
        program = ensure_program("docker-registry")
        for name, host, number in (("push", LOOPBACK, PUSH), ("pull", self.place.outside, PULL)):
            address = f"{host}:{self.place.port(number)}"
            config = self.place.folder / f"{name}.yml"
            config.write_text(CONFIG.format(folder=self.place.folder, address=address))

            def ready(host: str = host, port: int = self.place.port(number)) -> bool:
                return answers(host, port)

            Daemon(
                f"registry-{name}", self.place.folder, [str(program), "serve", str(config)], ready, (config,)
            ).ensure()

    def push(self, reference: str) -> None:
        """Put an image there that serves its own tag as /version; ``reference`` as on Docker Hub (owner/name:tag)."""
        at = f"{LOOPBACK}:{self.place.port(PUSH)}/{reference}"
        with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-") as scratch:
            folder = Path(scratch)
            (folder / "Dockerfile").write_text(DOCKERFILE)
            shutil.copy2(ensure_program("busybox-static"), folder / "busybox")
            (folder / "www").mkdir()
            (folder / "www" / "version").write_text(reference.rpartition(":")[2] + "\n")
            run(["docker", "build", "--quiet", "--label", self.settings.label, "--tag", at, str(folder)])
        run(["docker", "push", "--quiet", at])
        run(["docker", "image", "rm", at])

    def daemon_json(self) -> str:
        """What a host's /etc/docker/daemon.json needs to take this for Docker Hub."""
        return json.dumps(
            {"registry-mirrors": [f"http://{self.address}"], "insecure-registries": [self.address]}
        )

    def pulled(self) -> list[str]:
        """Manifests and layers that hosts have fetched, as paths, in order."""
        log = (self.place.folder / "registry-pull.log").read_text(errors="replace")
        words = (line.split('"') for line in log.splitlines())
        return [parts[1].split()[1] for parts in words if len(parts) > 2 and parts[1].startswith("GET /v2/")]


def down(settings: Settings) -> None:
    """Ended, if a test had it running; its images are thrown away."""
    folder = settings.state / "registry"
    if folder.is_dir():
        stop_all(folder)
        shutil.rmtree(folder / "images", ignore_errors=True)


def find_registry(settings: Settings, facts: Facts) -> Registry:
    """The lab's registry."""
    return Registry(settings, find_place(settings.state / "registry", facts.gateway))


def ensure_program(package: str) -> Path:
    """A program of a Debian package, unpacked and never installed, kept in the user's cache folder. LabError."""
    kept = cache_folder() / Path(PROGRAMS[package]).name
    if os.access(kept, os.X_OK):
        return kept
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        raise LabError(f"{package} is unpacked by mmdebstrap as root, which cannot be used here")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-") as scratch:
        os.chmod(scratch, 0o755)  # noqa: S103 - apt reads it without root's rights
        folder = Path(scratch) / "root"
        include = f"--include={','.join(PROGRAMS)}"
        run(
            ["mmdebstrap", "--quiet", "--variant=extract", include, SUITE, str(folder)], timeout=FETCH_SECONDS
        )
        for path in PROGRAMS.values():
            put_in_place(folder / path, cache_folder() / Path(path).name)
    return kept
