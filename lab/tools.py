"""The real programs the practice world and the tests need on this machine: restic, rclone, SeaweedFS.

rclone and SeaweedFS are Python wheels among the locked requirements. restic has to be 0.17 or newer and is none:
the machine's own is taken where it is new enough, else Debian's package is unpacked (never installed) and kept in
the user's cache folder. `python -m lab.tools` gets it and says where it is.
"""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
import tempfile
from pathlib import Path

from lab.roots import HOST, SUITE, ensure_root
from lab.settings import SCRATCH
from lab.shell import LabError, run

OLDEST_RESTIC = (0, 17)
FETCH_SECONDS = 300
VERSION = re.compile(r"^restic (\d+)\.(\d+)")


def cache_folder() -> Path:
    """Where fetched programs are kept, shared by all labs of a user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "understudy-lab"


def program_folder() -> Path:
    """The folder of this environment's own programs (.venv/bin)."""
    return Path(sysconfig.get_path("scripts"))


def rclone() -> Path:
    """rclone from its wheel; LabError when this environment lacks it."""
    return _from_wheel("rclone")


def weed() -> Path:
    """SeaweedFS from its wheel; LabError when this environment lacks it."""
    return _from_wheel("weed")


def _from_wheel(name: str) -> Path:
    path = program_folder() / name
    if not path.exists():
        raise LabError(f"{name} is not in {path.parent}: run scripts/bootstrap.sh")
    return path


def restic(*, may_build: bool = True) -> Path:
    """A restic of 0.17 or newer; LabError when there is no way to one.

    With `may_build` it may build the image of lab hosts, which carries the package: the way for machines
    without mmdebstrap.
    """
    own = program_folder() / "restic"
    for candidate in (own, shutil.which("restic")):
        if candidate and new_enough(Path(candidate)):
            return Path(candidate)
    cached = cache_folder() / "restic"
    if not new_enough(cached):
        fetch(cached, may_build=may_build)
    put_in_place(cached, own)
    return own


def put_in_place(source: Path, target: Path) -> None:
    """Copies a program so that whoever starts it meanwhile gets the old or the new one whole."""
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copy2(source, unfinished)
    os.replace(unfinished, target)


def version_of(text: str) -> tuple[int, int] | None:
    """(0, 18) for what `restic version` prints, None for anything else."""
    found = VERSION.match(text)
    return (int(found[1]), int(found[2])) if found else None


def new_enough(program: Path) -> bool:
    """Whether the program is there, runs on this machine, and is a restic that knows what we need."""
    if not os.access(program, os.X_OK):
        return False
    try:
        version = version_of(run([str(program), "version"], timeout=30, check=False).stdout)
    except (LabError, OSError):
        return False
    return version is not None and version >= OLDEST_RESTIC


def fetch(target: Path, *, may_build: bool) -> None:
    """Puts Debian's restic at `target`, replacing what is there only once the new one runs."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-") as scratch:
        os.chmod(scratch, 0o755)  # noqa: S103 - apt reads it without root's rights
        unpacked = Path(scratch) / "restic"
        reasons = []
        ways = [unpack_with_mmdebstrap, unpack_from_host_image] if may_build else [unpack_with_mmdebstrap]
        for way in ways:
            try:
                way(unpacked)
            except LabError as error:
                reasons.append(str(error))
                continue
            unpacked.chmod(0o755)
            if new_enough(unpacked):
                put_in_place(unpacked, target)
                return
            reasons.append("Debian's restic does not run on this machine")
    raise LabError(f"restic 0.17 or newer is needed: install it ({'; '.join(reasons)})")


def mmdebstrap_command(folder: Path) -> list[str]:
    """Downloads and checks the package as for a host image, and unpacks it into a folder of its own."""
    return ["mmdebstrap", "--quiet", "--variant=extract", "--include=restic", SUITE, str(folder)]


def unpack_with_mmdebstrap(target: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        raise LabError("mmdebstrap cannot be used here")
    folder = target.parent / "root"
    run(mmdebstrap_command(folder), timeout=FETCH_SECONDS)
    shutil.move(folder / "usr/bin/restic", target)


def unpack_from_host_image(target: Path) -> None:
    """The image of lab hosts carries the package; its own dpkg unpacks it, so any Linux with Docker will do."""
    ensure_root(HOST)
    folder = target.parent / "out"
    folder.mkdir(exist_ok=True)
    script = "dpkg-deb --fsys-tarfile /srv/lab-apt/restic_*.deb | tar -xO ./usr/bin/restic >/out/restic"
    owner = f"{os.getuid()}:{os.getgid()}"
    mount = ["--user", owner, "--volume", f"{folder}:/out"]
    run(["docker", "run", "--rm", "--network", "none", *mount, HOST.tag, "sh", "-c", script])
    shutil.move(folder / "restic", target)


def put_on_path() -> None:
    """Makes restic, rclone and weed what their names mean to this process and the programs it starts."""
    folders = [str(restic().parent), str(program_folder())]
    old = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(dict.fromkeys([*folders, *old]))


if __name__ == "__main__":
    try:
        print(restic(may_build=False))
    except LabError as problem:
        raise SystemExit(str(problem)) from None
