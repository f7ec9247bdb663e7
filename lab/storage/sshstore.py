"""A server reached by SSH, as a rented one: plain sftp, and append-only restic through rclone by forced command.

A small container from the hosts' image runs nothing but sshd. Its disk is a volume, so it outlives its container.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from lab import tools
from lab.engine import docker
from lab.settings import LABEL
from lab.shell import run
from lab.ssh import known_hosts_line, make_key
from lab.storage.place import ADMIN, answers

NAME = "ssh-store"
SFTP_USER, RCLONE_USER = "backup", "rsyncnet"
SFTP_FOLDER = "/backups"
MADE_FROM = f"{LABEL}.made-from"

BEGIN = f"""#!/bin/sh
set -eu
for user in {SFTP_USER} {RCLONE_USER}; do
    id "$user" >/dev/null 2>&1 || useradd --no-create-home --home-dir /nonexistent --password '*' "$user"
done
install -d -m 0755 /srv/store /srv/store/chroot /run/sshd
install -d -m 0700 -o {SFTP_USER} /srv/store/chroot{SFTP_FOLDER}
install -d -m 0700 -o {RCLONE_USER} /srv/store/{RCLONE_USER}
exec /usr/sbin/sshd -D -e -f /etc/store/sshd_config
"""

# Arguments: what a key is held to. The last word of the client's command is the repository; a provider that
# forces the whole command has one such key for each repository.
SERVE = f"""#!/bin/sh
path=${{SSH_ORIGINAL_COMMAND##* }}
case "$path" in
"" | /* | *..* | *[!a-zA-Z0-9/_.-]*) echo "no such repository" >&2; exit 2 ;;
esac
exec /usr/local/bin/rclone --config= serve restic --stdio "$@" "/srv/store/{RCLONE_USER}/$path"
"""

SSHD = f"""HostKey /etc/store/host_key
AuthorizedKeysFile /etc/store/keys/%u
StrictModes no
UsePAM no
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 50
Subsystem sftp internal-sftp
Match User {SFTP_USER}
    ChrootDirectory /srv/store/chroot
    ForceCommand internal-sftp
    AllowTcpForwarding no
"""


@dataclass(frozen=True)
class SshStore:
    """The server of one lab: `folder` keeps its keys, `project` and `label` are the lab's."""

    folder: Path
    project: str
    label: str

    @property
    def container(self) -> str:
        return f"{self.project}-{NAME}"

    @property
    def volume(self) -> str:
        return self.container

    @property
    def host_key(self) -> Path:
        return self.folder / "server"

    def key(self, owner: str) -> Path:
        """The private key of a host, or of `admin`, who may delete."""
        return self.folder / f"id-{owner}"

    def make_keys(self, owners: list[str]) -> None:
        make_key(self.host_key, "lab ssh store")
        for owner in [ADMIN, *owners]:
            make_key(self.key(owner), f"{owner}@lab")

    def known_hosts(self, address: str, port: int) -> str:
        """The line that pins the server as it is reached at `address` and `port`."""
        shown = address if port == 22 else f"[{address}]:{port}"
        return known_hosts_line(shown, self.host_key.with_suffix(".pub").read_text()) + "\n"

    def files(self, owners: list[str]) -> dict[str, tuple[int, str]]:
        """Path in the container to mode and content."""
        publics = {owner: self.key(owner).with_suffix(".pub").read_text() for owner in [ADMIN, *owners]}
        return {
            "etc/store/begin": (0o755, BEGIN),
            "etc/store/serve": (0o755, SERVE),
            "etc/store/sshd_config": (0o644, SSHD),
            "etc/store/host_key": (0o600, self.host_key.read_text()),
            f"etc/store/keys/{SFTP_USER}": (0o644, "".join(f"restrict {key}" for key in publics.values())),
            f"etc/store/keys/{RCLONE_USER}": (0o644, "".join(map(rclone_key, publics, publics.values()))),
        }

    def ensure(self, network: str, ip: str, image: str, owners: list[str]) -> bool:
        """The server running at `ip`; returns whether it had to be made."""
        self.make_keys(owners)
        files = self.files(owners)
        content = hashlib.sha256(repr((image, network, ip, files)).encode()).hexdigest()[:16]
        template = f'{{{{index .Config.Labels "{MADE_FROM}"}}}} {{{{.State.Status}}}}'
        present = run(["docker", "inspect", "-f", template, self.container], check=False).stdout.split()
        if present == [content, "running"] and answers(ip, 22):
            return False
        run(["docker", "rm", "-f", self.container], check=False)
        run(["docker", "volume", "create", "--label", self.label, self.volume])
        run(self.create_command(network, ip, image, content))
        docker("cp", "-", f"{self.container}:/", stdin=archive(files))
        docker("start", self.container)
        return True

    def run(self, command: str) -> str:
        """What a shell command on the server prints, stripped; LabError when it fails."""
        return docker("exec", self.container, "sh", "-c", command)

    def create_command(self, network: str, ip: str, image: str, content: str) -> list[str]:
        """The docker command line; `content` marks what the container was made from."""
        return [
            "docker", "create", "--name", self.container, "--hostname", NAME, "--init",
            "--label", self.label, "--label", f"{MADE_FROM}={content}",
            "--network", network, "--ip", ip,
            "--volume", f"{self.volume}:/srv/store",
            "--volume", f"{tools.rclone()}:/usr/local/bin/rclone:ro",
            image, "/etc/store/begin",
        ]  # fmt: skip


def rclone_key(owner: str, public: str) -> str:
    """The authorized_keys line: a host's key can only append."""
    limit = "" if owner == ADMIN else " --append-only"
    return f'restrict,command="/etc/store/serve{limit}" {public}'


def archive(files: dict[str, tuple[int, str]]) -> bytes:
    """A tar of the files, owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, (mode, text) in files.items():
            entry = tarfile.TarInfo(path)
            entry.mode, entry.size = mode, len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()
