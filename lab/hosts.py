"""Hosts: containers that behave like servers. Docker makes and breaks them, SSH talks to them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from lab.cloudflare.place import AUTHORITY_ON_HOSTS as AUTHORITY
from lab.cloudflare.place import folder as cloudflare_folder
from lab.disks import copy_store
from lab.engine import docker
from lab.facts import HostFacts
from lab.settings import Settings
from lab.shell import LabError, run
from lab.ssh import make_key
from lab.storage.usb import device_rules

NO_CGROUP = 90  # exit status of lab-init when the cgroup tree could not be mounted


def create_command(settings: Settings, name: str, host: HostFacts, gateway: str, image: str) -> list[str]:
    """The docker command line that makes the host's container, not yet started.

    It names the capabilities it needs: --privileged fails where the machine lacks one, and would show the
    host this machine's devices. /proc/sys must not be masked, or the inner engine cannot set up interfaces.
    """
    return [
        "docker", "create", "--name", host.container, "--hostname", name,
        "--label", settings.label,
        "--network", settings.network, "--ip", host.ip, "--network-alias", name, "--dns", gateway,
        "--cgroupns", "private",
        "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE",
        "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
        "--security-opt", "label=disable", "--security-opt", "systempaths=unconfined",
        "--tmpfs", "/run:exec,mode=755", "--tmpfs", "/tmp:exec,mode=1777",  # noqa: S108
        *device_rules(settings.project),
        "--volume", f"{settings.volume(name)}:/var/lib/docker",
        "--stop-signal", "SIGRTMIN+3", "--env", f"LAB_GATEWAY={gateway}",
        image, "/usr/lib/lab-init",
    ]  # fmt: skip


def state_of(container: str) -> str:
    """Docker's word for the container (running, exited, created, paused, ...), or absent."""
    done = run(["docker", "inspect", "-f", "{{.State.Status}}", container], check=False)
    return done.stdout.strip() if done.returncode == 0 else "absent"


def create(
    settings: Settings, name: str, host: HostFacts, gateway: str, image: str, store: str | None
) -> None:
    """Makes a host with fresh disks: an empty root and a copy of the prepared Docker store, if any."""
    destroy(settings, name)
    volume = settings.volume(name)
    docker("volume", "create", "--label", settings.label, volume)
    if store:
        copy_store(store, volume, image)
    run(create_command(settings, name, host, gateway, image))
    docker("cp", "-", f"{host.container}:/", stdin=identity_archive(settings, name))


def host_key(settings: Settings, name: str) -> Path:
    return settings.state / "hosts" / name / "ssh_host_ed25519_key"


def renew_host_key(settings: Settings, name: str) -> None:
    """A new server has a new identity: called once for each host that is made anew."""
    key = host_key(settings, name)
    key.unlink(missing_ok=True)
    make_key(key, f"root@{name}")


def identity_archive(settings: Settings, name: str) -> bytes:
    """A tar of what makes a host this host: its SSH host key, the lab's key as the only login, the lab's authority."""
    key = host_key(settings, name)
    files = {
        "etc/ssh/ssh_host_ed25519_key": (0o600, key.read_bytes()),
        "etc/ssh/ssh_host_ed25519_key.pub": (0o644, key.with_suffix(".pub").read_bytes()),
        "root/.ssh/authorized_keys": (0o600, settings.key.with_suffix(".pub").read_bytes()),
    }
    authority = cloudflare_folder(settings) / "ca.pem"
    if authority.exists():
        files[AUTHORITY.lstrip("/")] = (0o644, authority.read_bytes())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (mode, content) in files.items():
            entry = tarfile.TarInfo(path)
            entry.mode, entry.size = mode, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def start(container: str) -> None:
    """Switches the host on; LabError with its last words when it does not stay on."""
    docker("start", container)
    if state_of(container) == "exited":
        status = docker("inspect", "-f", "{{.State.ExitCode}}", container)
        words = run(["docker", "logs", "--tail", "3", container]).stderr.strip()
        hint = (
            " (this engine does not let a container mount its own cgroup tree)"
            if status == str(NO_CGROUP)
            else ""
        )
        raise LabError(f"the host {container} stopped at once, exit status {status}{hint}: {words}")


def power_cut(container: str) -> None:
    """Ends every process of the host at once, with nothing written out."""
    docker("kill", container)


def stop(container: str) -> None:
    """Shuts the host down in order."""
    docker("stop", "--time", "60", container)


def pause(container: str) -> None:
    """Stalls the host: it stays on the network and answers nothing."""
    docker("pause", container)


def unpause(container: str) -> None:
    docker("unpause", container)


def disconnect(settings: Settings, container: str) -> None:
    """Pulls the network cable."""
    docker("network", "disconnect", "--force", settings.network, container)


def connect(settings: Settings, name: str, host: HostFacts) -> None:
    """Puts the network cable back, with the same address."""
    docker("network", "connect", "--ip", host.ip, "--alias", name, settings.network, host.container)


def destroy(settings: Settings, name: str) -> None:
    """Removes the host with its disks; nothing happens when it is not there."""
    run(["docker", "rm", "-f", "-v", settings.container(name)], check=False)
    run(["docker", "volume", "rm", "-f", settings.volume(name)], check=False)
