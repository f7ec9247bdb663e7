"""Stages the practice world. Every step looks at what is there, so a killed `up` goes on where it was."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lab import hosts, ssh
from lab.cloudflare import place as cloudflare
from lab.edge import authority
from lab.engine import ensure_engine
from lab.facts import Facts, HostFacts, place_host, read_facts, write_facts
from lab.hetzner import daemon as hetzner
from lab.images_build import wanted_images
from lab.machine import require_cgroup2
from lab.network import ensure_network
from lab.progress import Progress
from lab.roots import APP_BASE, HOST, Root, ensure_root
from lab.settings import Settings
from lab.shell import LabError
from lab.storage import stores
from lab.store import ensure_store


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """One command at a time changes a lab; the kernel frees the lock of a killed one."""
    settings.state.mkdir(parents=True, exist_ok=True)
    with (settings.state / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError("another command is working on this lab: wait for it to end") from error
        yield


@contextmanager
def building() -> Iterator[None]:
    """Images and stores are shared by all labs of a user, so one lab at a time builds them; others wait."""
    with (Path(tempfile.gettempdir()) / f"understudy-lab.{os.getuid()}.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def up(settings: Settings, names: Sequence[str], progress: Progress, *, fresh: bool = False) -> Facts:
    """Brings the named hosts up and returns what is staged; nothing is done twice.

    With `fresh` the named hosts are replaced by new machines: empty disks, new host keys, the same addresses.
    """
    with locked(settings):
        images = wanted_images(settings.root)
        layout = require_cgroup2()
        with progress.step("engine", f"ready (cgroups: {layout})"):
            ensure_engine(settings)
        with building():
            ensure_roots(progress)
            store = ensure_store(images, progress)
        facts = ensure_facts(settings)
        ssh.make_key(settings.key, "understudy-lab")
        for name in names if fresh else ():
            hosts.destroy(settings, name)
        authority.ensure(cloudflare.folder(settings), facts.gateway)
        with ThreadPoolExecutor(max_workers=2) as pool:
            storing = pool.submit(bring_stores_up, settings, facts, progress)
            edge = pool.submit(bring_cloudflare_up, settings, facts, progress)
            ensure_hosts(settings, facts, names, store, progress)
            storing.result()
            edge.result()
        if hetzner.up(settings, facts):
            progress.say("hetzner", hetzner.find_hetzner(settings).endpoint)
        return facts


def dismiss(settings: Settings, name: str) -> None:
    """Takes one host out of the world: its machine, its disks, and its place in the inventory."""
    with locked(settings):
        hosts.destroy(settings, name)
        facts = ensure_facts(settings)
        if facts.hosts.pop(name, None):
            write_facts(settings, facts)


def bring_stores_up(settings: Settings, facts: Facts, progress: Progress) -> None:
    """The places for backups, started beside the hosts."""
    begin = time.monotonic()
    started = stores.up(settings, facts, HOST.tag)
    progress.say("stores", ", ".join(started) or "running", time.monotonic() - begin)


def bring_cloudflare_up(settings: Settings, facts: Facts, progress: Progress) -> None:
    """Cloudflare's API, colos and resolvers, started beside the hosts."""
    begin = time.monotonic()
    started = cloudflare.up(settings, facts)
    progress.say("cloudflare", "started" if started else "running", time.monotonic() - begin)


def ensure_roots(progress: Progress) -> None:
    """Builds the host image and the base of the application images side by side."""

    def build(root: Root) -> None:
        with progress.step(root.name.removeprefix("understudy-lab-") + " image", root.tag):
            ensure_root(root)

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(build, (HOST, APP_BASE)))


def ensure_facts(settings: Settings) -> Facts:
    """The staged world as noted, on a network that exists."""
    noted = read_facts(settings)
    subnet = ensure_network(settings, noted.subnet if noted else None)
    if noted is None or noted.subnet != subnet:
        return Facts(settings.project, subnet)
    return noted


def ensure_hosts(
    settings: Settings, facts: Facts, names: Sequence[str], store: str | None, progress: Progress
) -> None:
    for name in names:
        place_host(settings, facts, name)
    fresh = [name for name in names if not was_made(facts.hosts[name])]
    for name in fresh:
        hosts.renew_host_key(settings, name)
    pin_all(settings, facts)
    write_facts(settings, facts)

    def bring_up(name: str) -> None:
        host = facts.hosts[name]
        with progress.step(name, f"{host.role} at {host.ip}"):
            if name in fresh:
                hosts.create(settings, name, host, facts.gateway, HOST.tag, store)
            switch_on(settings, host)

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(bring_up, names))


def was_made(host: HostFacts) -> bool:
    """A container that never ran may lack its keys: it counts as not made."""
    return hosts.state_of(host.container) not in ("absent", "created")


def pin_all(settings: Settings, facts: Facts) -> None:
    keys = {
        host.ip: hosts.host_key(settings, name).with_suffix(".pub").read_text()
        for name, host in facts.hosts.items()
        if hosts.host_key(settings, name).exists()
    }
    ssh.pin_host_keys(settings, keys)


def switch_on(settings: Settings, host: HostFacts) -> None:
    """Starts (or unpauses) the host and waits until systemd has started everything on it."""
    state = hosts.state_of(host.container)
    if state == "paused":
        hosts.unpause(host.container)
    elif state != "running":
        hosts.start(host.container)
    ssh.wait_for_ssh(settings, host.ip)
    ssh.wait_for_boot(settings, host.ip)


def staged(settings: Settings) -> Facts:
    """What is staged; LabError when nothing is."""
    facts = read_facts(settings)
    if facts is None:
        raise LabError("no lab is staged here: run `understudy lab up` first")
    return facts


def find_host(settings: Settings, name: str) -> tuple[Facts, HostFacts]:
    facts = staged(settings)
    if name not in facts.hosts:
        raise LabError(f"the lab has no host {name}: it has {', '.join(facts.hosts)}")
    return facts, facts.hosts[name]
