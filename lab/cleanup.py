"""Takes the practice world away again, and nothing that is not part of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from lab import registry
from lab.cloudflare import place as cloudflare
from lab.engine import docker, ensure_engine, reachable, stop_engine
from lab.hetzner import daemon as hetzner
from lab.network import remove_network
from lab.settings import LABEL, SCRATCH, Settings, find_settings
from lab.shell import LabError, run
from lab.storage import stores
from lab.storage.usb import remove_disks
from lab.tools import cache_folder


def remove_lab(settings: Settings, *, everything: bool) -> None:
    """Removes hosts, stores, disks and network; with `everything` also images, store, state and our engine.

    Labs whose state lies in this one's folder go first: tests that run side by side have one each.
    """
    for facts in sorted(settings.state.glob("*/lab.json")):
        remove_lab(replace(settings, state=facts.parent), everything=False)
    if everything and settings.state.is_dir():
        wake_engine(settings)
    stores.down(settings)
    registry.down(settings)
    hetzner.down(settings)
    cloudflare.down(settings)
    if reachable():
        remove_labelled("container", settings.label)
        remove_labelled("volume", settings.label)
        remove_network(settings)
        if everything:
            remove_shared()
    remove_disks(settings)
    settings.facts.unlink(missing_ok=True)
    settings.known_hosts.unlink(missing_ok=True)
    shutil.rmtree(settings.state / "hosts", ignore_errors=True)
    if everything:
        stop_engine(settings)
        remove_scratch()
        shutil.rmtree(cache_folder(), ignore_errors=True)
        shutil.rmtree(settings.state, ignore_errors=True)


def wake_engine(settings: Settings) -> None:
    """Disks and images can only be removed through an engine, so one that was stopped starts once more."""
    try:
        ensure_engine(settings)
    except LabError as error:
        print(f"what the lab left in Docker stays: {error}")


def remove_scratch() -> None:
    """Removes what killed image builds left in the temporary folder; never follows a mount."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*-*"):
        owner = folder.name.removeprefix(SCRATCH).split("-")[0]
        if not Path("/proc", owner).exists():
            run(["rm", "-rf", "--one-file-system", str(folder)], check=False)
    Path(tempfile.gettempdir(), f"understudy-lab.{os.getuid()}.lock").unlink(missing_ok=True)


def remove_labelled(kind: str, label: str) -> None:
    """Removes every container or volume with the label."""
    listing = ["ps", "-a", "-q"] if kind == "container" else ["volume", "ls", "-q"]
    found = docker(*listing, "--filter", f"label={label}").split()
    if found:
        docker(kind, "rm", "-f", *(["-v"] if kind == "container" else []), *found)


def remove_shared() -> None:
    """Removes the prepared store and the images, unless another clone's lab on this machine uses them."""
    if docker("ps", "-a", "-q", "--filter", f"label={LABEL}"):
        owners = docker(
            "ps", "-a", "--filter", f"label={LABEL}", "--format", f'{{{{.Label "{LABEL}"}}}}'
        ).split()
        if any(owner != "store" for owner in owners):
            print("images and the prepared store stay: another lab on this machine uses them")
            return
    remove_labelled("container", f"{LABEL}=store")
    remove_labelled("volume", f"{LABEL}=store")
    images = set(docker("image", "ls", "-a", "--filter", f"label={LABEL}", "--format", "{{.ID}}").split())
    if images:
        run(["docker", "image", "rm", "-f", *sorted(images)], check=False)


if __name__ == "__main__":
    remove_lab(find_settings(), everything=True)
