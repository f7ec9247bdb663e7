"""The tests of import and leave on hosts that are Debian 12, which most home servers run.

    PYTHONPATH=. python tests/measure/debian12.py [PYTEST ARGUMENT...]

The engine is Debian 12's own (20.10). It has no package of Compose's plugin, so the hosts get Debian 13's, and its restic is
too old, so Understudy brings one: Debian 13's, served by this machine and named in the backup policy with its SHA-256.
Needs root and mmdebstrap. Everything of the lab is gone at the end but its images.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from lab import hosts, roots, tools, world
from lab.engine import ensure_engine
from lab.settings import find_settings

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / ".lab" / "debian12"
NAME, SUITE = "understudy-lab-host-12", "bookworm"
THEIRS = ("hoarder", "standby")
MISSING = {"docker-cli", "docker-compose"}
TESTS = (
    "tests/lab/test_import.py",
    "tests/lab/test_leave.py::test_as_a_sudo_user_with_backup_alone_nothing_else_is_touched_and_leaving_ends_where_it_began",
)
STANDS_FOR = "Package: docker-cli\nVersion: 99\nArchitecture: all\nMaintainer: lab <lab@example.org>\nDescription: in docker.io here\n"


def of_debian_13(package: str, folder: Path) -> Path:
    """A package of the lab's ordinary host, as it lies in that host's pool."""
    path = folder / f"{package}.deb"
    words = ["run", "--rm", "--entrypoint", "sh", roots.HOST.tag, "-c", f"cat /srv/lab-apt/{package}_*.deb"]
    path.write_bytes(subprocess.run(["docker", *words], check=True, capture_output=True).stdout)
    return path


def image(folder: Path) -> str:
    """The host's image, built unless it is there."""
    compose = of_debian_13("docker-compose", folder)
    ordinary = roots.SUITE
    roots.SUITE = SUITE
    try:
        root = roots.Root(NAME, roots.HOST.folders, roots.HOST.packages, roots.HOST.command)
        if not roots.image_exists(root.tag):
            with roots.gathered_recipe(root) as recipe:
                fitted(recipe, compose)
                roots.build_with_mmdebstrap(root, recipe)
        return root.tag
    finally:
        roots.SUITE = ordinary


def fitted(recipe: Path, compose: Path) -> None:
    """The recipe of a Debian 13 host, for Debian 12."""
    pool = recipe / "pool.txt"
    pool.write_text("".join(f"{name}\n" for name in pool.read_text().split() if name not in MISSING))
    control = recipe / "docker-cli" / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(STANDS_FOR)
    shutil.copy(compose, recipe)
    script = recipe / "customize.sh"
    index = 'python3 "$recipe/index_pool.py" "$pool"'
    text = script.read_text()
    assert index in text
    more = 'cp "$recipe"/*.deb "$pool"; dpkg-deb --root-owner-group --build "$recipe/docker-cli" "$pool" >/dev/null'
    script.write_text(text.replace(index, f"{more}\n{index}"))


def served_restic(folder: Path) -> dict[str, str]:
    """Debian 13's restic behind an address on this machine: {"url", "sha256"}."""
    deb = of_debian_13("restic", folder)
    subprocess.run(["dpkg-deb", "-x", str(deb), str(folder / "restic")], check=True)
    program = folder / "restic" / "usr" / "bin" / "restic"
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(program.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    return {"url": f"http://127.0.0.1:{server.server_port}/restic", "sha256": digest}


class OnDebian12:
    """Makes the hosts that the tests treat as their own from the other image."""

    def __init__(self, tag: str, restic: dict[str, str]) -> None:
        self.tag, self.restic = tag, restic
        self.make = hosts.create

    def create(self, settings: Any, name: str, host: Any, gateway: str, tag: str, store: str | None) -> None:
        self.make(settings, name, host, gateway, self.tag if name in THEIRS else tag, store)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        hosts.create = self.create
        module = sys.modules.get("test_import")
        if module is not None:
            policy = (
                '{{"repositories": {repositories}, "restic": '
                + json.dumps(self.restic).join(("{", "}"))
                + "}}"
            )
            module.ALL = module.ALL.replace('{{"repositories": {repositories}}}', policy)  # type: ignore[attr-defined]


def main() -> int:
    os.environ["UNDERSTUDY_LAB"] = str(LAB)
    os.chdir(ROOT)
    tools.put_on_path()
    ensure_engine(find_settings())
    with tempfile.TemporaryDirectory(prefix="understudy-debian12-") as scratch:
        folder = Path(scratch)
        roots.ensure_root(roots.HOST)
        restic = served_restic(folder)
        os.environ[world.RESTIC] = json.dumps(restic)
        plugin = OnDebian12(image(folder), restic)
        try:
            return int(pytest.main(["-q", *(sys.argv[1:] or TESTS)], plugins=[plugin]))
        finally:
            subprocess.run([sys.executable, "-m", "understudy.cli", "lab", "down"], check=False)
            print(f"the hosts {', '.join(THEIRS)} of {find_settings().project} were {SUITE}")


if __name__ == "__main__":
    sys.exit(main())
