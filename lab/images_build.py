"""Builds the application images the catalogue's Compose files name, from the definitions in lab/images.

Where no image can be pulled, every application is a thin layer on one shared base, named like the real one.
Here they are tagged below `understudy-lab/`, so that an image of the same name on the owner's own machine
stays what it is; the prepared Docker store of a lab host holds them under their real names.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.engine import docker
from lab.progress import Progress
from lab.roots import APP_BASE
from lab.settings import LABEL
from lab.shell import run
from understudy.errors import BadInput

KEY_LABEL = f"{LABEL}.key"
COPY = re.compile(r"^\s*(?:COPY|ADD)\s+(.*)$", re.IGNORECASE)
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class AppImage:
    """One image to have: the name a Compose file gives, and the tar that docker build gets for it."""

    reference: str
    dockerfile: str
    context: bytes

    @property
    def tag(self) -> str:
        """Its name in this machine's engine."""
        return "understudy-lab/" + self.reference.replace(":", "/", self.reference.count(":") - 1)

    @property
    def key(self) -> str:
        """Changes when anything that goes into the image does."""
        return hashlib.sha256(f"{APP_BASE.tag}\0{self.reference}\0".encode() + self.context).hexdigest()[:16]


def bare_name(reference: str) -> str:
    """`docker.io/library/nginx:1.29` -> `nginx`: the name definitions are matched by."""
    name = reference.split("@")[0]
    if ":" in name.rsplit("/", 1)[-1]:
        name = name.rsplit(":", 1)[0]
    for prefix in ("docker.io/", "index.docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name


def image_references(compose_files: Iterable[Path]) -> dict[str, str]:
    """Every `image:` of the files, each with "SERVICE/COMPOSE_SERVICE" that names it first."""
    found: dict[str, str] = {}
    for path in sorted(compose_files):
        document = yaml.safe_load(path.read_text()) or {}
        for name, service in (document.get("services") or {}).items():
            if isinstance(service, dict) and isinstance(service.get("image"), str):
                found.setdefault(service["image"], f"{path.parent.name}/{name}")
    return found


def load_definitions(path: Path) -> dict[str, str]:
    """The Dockerfile (path below lab/images) of every known image name."""
    found: dict[str, str] = {}
    for entry in yaml.safe_load(path.read_text()) or []:
        match: Any = entry["match"]
        for name in [match] if isinstance(match, str) else match:
            found[bare_name(name)] = entry["dockerfile"]
    return found


def choose_definition(reference: str, user: str, definitions: dict[str, str]) -> str:
    """The Dockerfile for the image; BadInput names service and image when there cannot be one."""
    if "@" in reference:
        raise BadInput(
            f"{user}: the lab builds its images, so it cannot have {reference} by digest: name it by tag"
        )
    if "$" in reference:
        raise BadInput(f"{user}: the lab needs the plain name of the image, not {reference}")
    name = bare_name(reference)
    if name not in definitions:
        raise BadInput(
            f"{user}: the lab cannot build the image {reference}: add {name} to lab/images/images.yaml"
        )
    return definitions[name]


def copied_sources(dockerfile: str) -> list[str]:
    """The paths in the build context that COPY and ADD lines of a Dockerfile take."""
    found: list[str] = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        matched = COPY.match(line)
        if matched and "--from=" not in line:
            words = [word for word in matched.group(1).split() if not word.startswith("--")]
            found += words[:-1]
    return found


def build_context(folder: Path, dockerfile: str) -> bytes:
    """A tar of the Dockerfile and of what it copies from `folder`, equal for equal contents."""
    text = (folder / "images" / dockerfile).read_text()
    paths: set[Path] = set()
    for source in copied_sources(text):
        for top in folder.glob(source.rstrip("/").removeprefix("./")):
            paths.update(file for file in ([top] if top.is_file() else top.rglob("*")) if is_source(file))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add_file(archive, "Dockerfile", text.encode(), 0o644)
        for path in sorted(paths):
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            add_file(archive, str(path.relative_to(folder)), path.read_bytes(), mode)
    return buffer.getvalue()


def is_source(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"


def add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def wanted_images(root: Path) -> list[AppImage]:
    """Every image the catalogue needs, with its build context; BadInput when one has no definition."""
    places = ("services", "lab/overlay", "lab/extras")
    files = [file for place in places for file in root.glob(f"{place}/*/compose*.yaml")]
    references = image_references(files)
    listing = root / "lab/images/images.yaml"
    definitions = load_definitions(listing) if listing.exists() else {}
    images = []
    for reference, user in sorted(references.items()):
        dockerfile = choose_definition(reference, user, definitions)
        images.append(AppImage(reference, dockerfile, build_context(root / "lab", dockerfile)))
    return images


def ensure_images(images: list[AppImage], progress: Progress) -> None:
    """Builds the images whose content changed, two at a time."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        built = list(pool.map(ensure_image, images))
    progress.say("application images", f"{len(images)} ready, {sum(built)} built")


def ensure_image(image: AppImage) -> bool:
    template = f'{{{{index .Config.Labels "{KEY_LABEL}"}}}}'
    present = run(["docker", "image", "inspect", "-f", template, image.tag], check=False)
    if present.returncode == 0 and present.stdout.strip() == image.key:
        return False
    labels = ["--label", f"{LABEL}=image", "--label", f"{KEY_LABEL}={image.key}"]
    arguments = ["--build-arg", f"BASE={APP_BASE.tag}", "--build-arg", f"IMAGE={image.reference}"]
    docker(
        "build",
        "-q",
        "--network",
        "none",
        "--pull=false",
        *labels,
        *arguments,
        "-t",
        image.tag,
        "-",
        stdin=image.context,
    )
    return True
