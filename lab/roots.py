"""Builds the two Debian roots the lab lives on: the bare host and the base of all application images.

Each is known by the hash of its recipe, so a changed recipe is a new image and an unchanged one is reused.
Root on a machine with mmdebstrap builds from Debian's packages alone; everybody else from debian:trixie.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lab.engine import docker
from lab.settings import LABEL, SCRATCH
from lab.shell import LabError, run

SUITE = "trixie"
LEAVE_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
BUILD_SECONDS = 1800
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Root:
    """A Debian root: `folders` hold its recipe, `packages` names the list of what to install."""

    name: str
    folders: tuple[str, ...]
    packages: str
    command: str

    @property
    def tag(self) -> str:
        command = mmdebstrap_command(self, Path("recipe"))
        return f"{self.name}:{recipe_hash([HERE / folder for folder in self.folders], command)}"

    def package_names(self) -> list[str]:
        return (HERE / self.packages).read_text().split()


HOST = Root("understudy-lab-host", ("host", "connector"), "host/bare.txt", "/usr/lib/lab-init")
APP_BASE = Root("understudy-lab-app-base", ("appbase",), "appbase/packages.txt", "/bin/sh")


def recipe_files(folders: list[Path]) -> list[Path]:
    return sorted(
        path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"
    )


def recipe_hash(folders: list[Path], command: list[str]) -> str:
    """12 hex digits over names, modes and contents of every file of the recipe, and over how it is built."""
    digest = hashlib.sha256("\0".join(command).encode())
    for path in recipe_files(folders):
        executable = os.access(path, os.X_OK)
        digest.update(f"\0{path.parent.name}/{path.name}\0{executable}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def image_exists(tag: str) -> bool:
    return run(["docker", "image", "inspect", "-f", "{{.Id}}", tag], check=False).returncode == 0


def ensure_root(root: Root) -> bool:
    """Builds the image unless it is there; returns whether it had to."""
    if image_exists(root.tag):
        return False
    with gathered_recipe(root) as recipe:
        if os.geteuid() == 0 and shutil.which("mmdebstrap"):
            build_with_mmdebstrap(root, recipe)
        else:
            build_from_registry(root, recipe)
    remove_superseded(root)
    return True


def remove_superseded(root: Root) -> None:
    """Removes images of older recipes, except those a host or a store still uses (Docker refuses these)."""
    tags = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", root.name).split()
    for tag in tags:
        if tag != root.tag:
            run(["docker", "image", "rm", tag], check=False)


@contextmanager
def gathered_recipe(root: Root) -> Iterator[Path]:
    """The recipe's files in one temporary folder: the first folder's on top, others below by name."""
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-") as scratch:
        os.chmod(scratch, 0o755)  # noqa: S103 - apt reads it without root's rights
        target = Path(scratch) / "recipe"
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(HERE / root.folders[0], target, ignore=ignore)
        for folder in root.folders[1:]:
            shutil.copytree(HERE / folder, target / folder, ignore=ignore)
        yield target


def build_with_mmdebstrap(root: Root, recipe: Path) -> None:
    """Streams a fresh root straight into the engine; a failed build leaves no image behind."""
    unfinished = f"{root.name}:unfinished"
    environment = os.environ | {"TMPDIR": str(recipe.parent)}
    with tempfile.TemporaryFile() as errors:
        maker = subprocess.Popen(  # in a session of its own: when it fails it signals its whole process group
            mmdebstrap_command(root, recipe),
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        try:
            import_root(root, unfinished, maker)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(maker.pid, signal.SIGTERM)
            raise
        finally:
            status = maker.wait()
        errors.seek(0)
        message = last_error(errors.read())
    if status != 0:
        run(["docker", "image", "rm", unfinished], check=False)
        raise LabError(f"Debian's packages could not be installed into {root.name}: {message}")
    docker("tag", unfinished, root.tag)
    docker("image", "rm", unfinished)


def mmdebstrap_command(root: Root, recipe: Path) -> list[str]:
    options = [f"--dpkgopt=path-exclude={path}" for path in LEAVE_OUT]
    hooks = [
        f'copy-in "{recipe}" /tmp',
        'chroot "$1" sh /tmp/recipe/customize.sh /tmp/recipe',
        'rm -rf "$1/tmp/recipe"',
    ]
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(root.package_names())}",
        "--dpkgopt=force-unsafe-io",
        *options,
        *(f"--customize-hook={hook}" for hook in hooks),
        SUITE,
        "-",
    ]


def import_root(root: Root, tag: str, maker: subprocess.Popen[bytes]) -> None:
    changes = [f'CMD ["{root.command}"]', f"LABEL {LABEL}=image"]
    flags = [flag for change in changes for flag in ("--change", change)]
    done = subprocess.run(
        ["docker", "import", *flags, "-", tag],
        stdin=maker.stdout,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and maker.poll() in (None, 0):
        raise LabError(f"the engine refused the image {root.name}: {done.stderr.strip()}")


def last_error(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("E:")]
    return errors[0] if errors else (lines or ["no message"])[-1][:200]


def build_from_registry(root: Root, recipe: Path) -> None:
    """The same root by docker build, for machines without mmdebstrap or without root."""
    (recipe / "Dockerfile").write_text(registry_dockerfile(root))
    command = ["docker", "build", "-q", "--label", f"{LABEL}=image", "-t", root.tag, str(recipe)]
    done = run(command, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise LabError(
            f"{root.name} cannot be built: as root on Debian or Ubuntu install mmdebstrap, elsewhere make "
            f"debian:{SUITE} available to Docker ({last_error((done.stdout + done.stderr).encode())})"
        )


def registry_dockerfile(root: Root) -> str:
    excludes = "".join(f"path-exclude={path}\\n" for path in LEAVE_OUT)
    install = f"apt-get install -q -y --no-install-recommends {' '.join(root.package_names())}"
    return "\n".join(
        [
            f"FROM debian:{SUITE}",
            "COPY . /tmp/recipe",
            f"RUN printf '{excludes}force-unsafe-io\\n' >/etc/dpkg/dpkg.cfg.d/99lab && apt-get update "
            f"&& DEBIAN_FRONTEND=noninteractive {install} "
            "&& sh /tmp/recipe/customize.sh /tmp/recipe && rm -rf /tmp/recipe",
            f'CMD ["{root.command}"]',
            "",
        ]
    )
