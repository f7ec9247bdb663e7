"""The prepared Docker store: /var/lib/docker with all application images, copied into each new host."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass

from lab.disks import copy_store
from lab.engine import docker
from lab.images_build import AppImage, ensure_images
from lab.progress import Progress
from lab.roots import HOST
from lab.settings import LABEL
from lab.shell import LabError, run

CONTENT_LABEL = f"{LABEL}.content"
OWNER = f"{LABEL}=store"
KEPT = 2  # the present store and the one before, so that going back to yesterday's commit is cheap

# Runs in a throw-away host: fills the volume at /var/lib/docker with the images on standard input.
# Arguments: LAB_NAME=REAL_NAME to load and rename, or =REAL_NAME to drop. What identifies an engine goes.
FILL = """
set -eu
apt-get -qq update
apt-get -qq -y --no-install-recommends install docker.io docker-cli </dev/null >/dev/null 2>&1
dockerd --bridge=none --iptables=false --ip6tables=false >/tmp/dockerd.log 2>&1 &
engine=$!
tries=0
until docker version >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ]; then tail -n 3 /tmp/dockerd.log >&2; exit 1; fi
    sleep 0.1
done
load=
for pair in "$@"; do
    if [ -n "${pair%%=*}" ]; then load=1; fi
done
if [ -n "$load" ]; then docker load -q >/dev/null; fi
for pair in "$@"; do
    if [ -n "${pair%%=*}" ]; then
        docker tag "${pair%%=*}" "${pair#*=}"
        docker rmi "${pair%%=*}" >/dev/null
    else
        docker rmi -f "${pair#=}" >/dev/null
    fi
done
docker image prune -f >/dev/null
kill $engine
wait $engine
cd /var/lib/docker
rm -rf engine-id network containerd tmp runtimes
"""


@dataclass(frozen=True)
class Store:
    """A complete store: its volume (the container that marks it complete has the same name) and content."""

    name: str
    content: dict[str, str]  # real image name -> AppImage.key


def store_name(images: list[AppImage]) -> str:
    text = HOST.tag + "".join(f"\0{image.reference}={image.key}" for image in images)
    return "understudy-lab-store-" + hashlib.sha256(text.encode()).hexdigest()[:12]


def ensure_store(images: list[AppImage], progress: Progress) -> str | None:
    """Builds what is missing of images and store; returns the store's volume, None without images."""
    if not images:
        return None
    ensure_images(images, progress)
    name = store_name(images)
    stores = complete_stores()
    if name not in [store.name for store in stores]:
        with progress.step("docker store", f"{len(images)} images loaded"):
            build_store(name, images, stores[0] if stores else None)
        remove_old_stores(complete_stores()[KEPT:])
    return name


def complete_stores() -> list[Store]:
    """Every complete store, newest first. Its container, never started, exists only once it is complete."""
    listing = docker("ps", "-a", "--filter", f"label={CONTENT_LABEL}", "--format", "{{.Names}}")
    stores = []
    for name in listing.split():
        content = docker("inspect", "-f", f'{{{{index .Config.Labels "{CONTENT_LABEL}"}}}}', name)
        stores.append(Store(name, json.loads(content)))
    return stores


def build_store(name: str, images: list[AppImage], previous: Store | None) -> None:
    """Fills a new store, starting from the previous one so that only changed images are loaded."""
    run(["docker", "rm", "-f", f"{name}-filler"], check=False)
    run(["docker", "volume", "rm", "-f", name], check=False)
    docker("volume", "create", "--label", OWNER, name)
    old = previous.content if previous else {}
    if previous:
        copy_store(previous.name, name, HOST.tag)
    changed = [image for image in images if old.get(image.reference) != image.key]
    dropped = sorted(old.keys() - {image.reference for image in images})
    pairs = [f"={reference}" for reference in dropped] + [
        f"{image.tag}={image.reference}" for image in changed
    ]
    if pairs:  # a new host image alone leaves the content as it was
        fill(name, [image.tag for image in changed], pairs)
    content = json.dumps({image.reference: image.key for image in images})
    mark = ["--label", OWNER, "--label", f"{CONTENT_LABEL}={content}", "-v", f"{name}:/var/lib/docker"]
    docker("create", "--name", name, "--network", "none", *mark, HOST.tag, "true")


def fill_command(name: str, pairs: list[str]) -> list[str]:
    return [
        "docker", "run", "-i", "--rm", "--name", f"{name}-filler", "--label", OWNER, "--network", "none",
        "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--security-opt", "seccomp=unconfined",
        "--security-opt", "apparmor=unconfined", "--security-opt", "label=disable",
        "-v", f"{name}:/var/lib/docker", HOST.tag, "sh", "-c", FILL, "fill", *pairs,
    ]  # fmt: skip


def fill(name: str, tags: list[str], pairs: list[str]) -> None:
    """Streams the tagged images from this machine's engine into the store's."""
    if not tags:  # only names to drop
        raise_if_failed(
            subprocess.run(fill_command(name, pairs), input=b"", capture_output=True, check=False)
        )
        return
    with subprocess.Popen(["docker", "save", *tags], stdout=subprocess.PIPE) as saver:
        filled = subprocess.run(
            fill_command(name, pairs), stdin=saver.stdout, capture_output=True, check=False
        )
        if saver.stdout:
            saver.stdout.close()
    raise_if_failed(filled)
    if saver.returncode != 0:
        raise LabError("the application images could not be read out of this machine's Docker engine")


def raise_if_failed(filled: subprocess.CompletedProcess[bytes]) -> None:
    if filled.returncode != 0:
        lines = filled.stderr.decode(errors="replace").strip().splitlines()
        raise LabError(
            f"the prepared Docker store could not be filled: {lines[-1] if lines else 'no message'}"
        )


def remove_old_stores(stores: list[Store]) -> None:
    for store in stores:
        run(["docker", "rm", store.name], check=False)
        run(["docker", "volume", "rm", store.name], check=False)
