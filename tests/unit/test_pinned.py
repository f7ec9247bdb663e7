"""The restic that is sent to hosts whose own is too old: chosen, fetched, refused when it is another."""

from __future__ import annotations

import bz2
import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from samples import VARIABLES, Write

from understudy import render
from understudy.baseline import platform
from understudy.catalog import Catalog
from understudy.errors import UnderstudyError
from understudy.protection import pinned
from understudy.protection.pinned import Program
from understudy.protection.policy import Policy
from understudy.settings import settings_of

DEBIAN_12 = platform({"id": "debian", "version_id": "12"})
DEBIAN_13 = platform({"id": "debian", "version_id": "13"})


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pinned.content.cache_clear()
    return tmp_path / "cache" / "understudy" / "programs"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, the folder that is served there)."""
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv7l", "arm")])
def test_a_release_with_an_old_restic_gets_the_pinned_one(machine: str, arch: str) -> None:
    found = pinned.wanted(Policy(), DEBIAN_12, machine)
    assert found is not None and f"_linux_{arch}.bz2" in found.url and len(found.sha256) == 64


def test_a_release_with_a_new_one_and_an_owner_with_his_own_get_none() -> None:
    assert pinned.wanted(Policy(), DEBIAN_13, "x86_64") is None
    assert pinned.wanted(Policy(restic="/usr/local/bin/restic"), DEBIAN_12, "x86_64") is None


def test_a_machine_for_which_there_is_none_is_named() -> None:
    with pytest.raises(UnderstudyError, match=r"none for riscv64 .*give `restic: \{url, sha256\}`"):
        pinned.wanted(Policy(), DEBIAN_12, "riscv64")


def test_it_is_fetched_once_checked_and_unpacked(site: tuple[str, Path]) -> None:
    address, folder = site
    data = bz2.compress(b"the program")
    (folder / "restic.bz2").write_bytes(data)
    program = Program(f"{address}/restic.bz2", hashlib.sha256(data).hexdigest())
    assert pinned.content(program) == b"the program"
    (folder / "restic.bz2").unlink()
    pinned.content.cache_clear()
    assert pinned.content(program) == b"the program"


def test_another_file_than_expected_is_refused_and_not_kept(
    site: tuple[str, Path], empty_cache: Path
) -> None:
    address, folder = site
    (folder / "restic.bz2").write_bytes(b"something else")
    with pytest.raises(UnderstudyError, match=r"not what was expected.*nothing of it is used"):
        pinned.content(Program(f"{address}/restic.bz2", "0" * 64))
    assert not empty_cache.exists()


def test_a_damaged_copy_in_the_cache_is_fetched_again(site: tuple[str, Path], empty_cache: Path) -> None:
    address, folder = site
    (folder / "restic").write_bytes(b"plain")
    program = Program(f"{address}/restic", hashlib.sha256(b"plain").hexdigest())
    empty_cache.mkdir(parents=True)
    (empty_cache / program.sha256).write_bytes(b"half")
    assert pinned.content(program) == b"plain"


def test_where_it_cannot_be_fetched_the_way_on_is_said(empty_cache: Path) -> None:
    with pytest.raises(UnderstudyError, match=r"cannot be fetched .*: fetch it elsewhere and put it at"):
        pinned.content(Program("http://127.0.0.1:9/restic.bz2", "0" * 64))


@pytest.mark.parametrize("version", ["12", "13"])
def test_it_takes_the_packages_place_on_a_host_that_needs_it(
    version: str,
    site: tuple[str, Path],
    notes: Write,
    load: Callable[..., Catalog],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, folder = site
    program: Any = shutil.which("true")
    data = bz2.compress(Path(program).read_bytes())
    (folder / "restic.bz2").write_bytes(data)
    digests = {"amd64": hashlib.sha256(data).hexdigest()}
    known = {"version": "0.18.1", "url": f"{address}/restic.bz2", "sha256": digests}
    monkeypatch.setattr(pinned, "_known", lambda: known)
    policy = {"repositories": {"disk": {"url": "/mnt/disk", "tamper": "none"}}, "host_paths": []}
    settings = settings_of("box", {"domain": VARIABLES["DOMAIN"], "backup": policy})
    result = render.desired(load(), settings, {"notes": {"KEY": "k"}, "backup": {"DISK_PASSWORD": "p"}})
    found = {
        "os": {"id": "debian", "version_id": version, "arch": "x86_64"},
        "docker": {"version": "26", "compose": "2"},
    }
    render.complete(result, found)
    assert (pinned.OWN in result.tree.entries) == (version == "12") == ("restic" not in result.packages)
    if version == "12":
        entry = result.tree.entries[pinned.OWN]
        assert (entry.mode, entry.content) == (0o755, Path(program).read_bytes())
        assert any(pinned.OWN in validator.needs for validator in result.validators)
