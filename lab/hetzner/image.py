"""The image `debian-13` of the emulated Hetzner: the lab's bare host with cloud-init installed, as cloud images have it."""

from __future__ import annotations

import hashlib

from lab.engine import docker
from lab.roots import HOST, image_exists
from lab.settings import LABEL
from lab.shell import LabError, run

NAME = "understudy-lab-host-cloud"
# From the pool in the image itself: no network. Network and package sources are the lab's, not cloud-init's.
INSTALL = """
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install cloud-init </dev/null
rm -rf /var/lib/apt/lists/*
cat >/etc/cloud/cloud.cfg.d/99-lab.cfg <<EOF
datasource_list: [NoCloud]
network: {config: disabled}
apt: {preserve_sources_list: true}
growpart: {mode: "off"}
resize_rootfs: false
EOF
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id
"""


def tag() -> str:
    return f"{NAME}:{hashlib.sha256((HOST.tag + INSTALL).encode()).hexdigest()[:12]}"


def ensure_image() -> str:
    """The image's tag; it is made unless it is there, in some ten seconds."""
    wanted = tag()
    if image_exists(wanted):
        return wanted
    maker = f"{NAME}-maker-{wanted.split(':')[1]}"
    run(["docker", "rm", "-f", maker], check=False)
    command = ["docker", "run", "--name", maker, "--network", "none", "--label", f"{LABEL}=image"]
    done = run([*command, HOST.tag, "sh", "-c", INSTALL], check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise LabError(f"cloud-init could not be installed: {words[-1] if words else 'no message'}")
    changes = ["--change", f'CMD ["{HOST.command}"]', "--change", f"LABEL {LABEL}=image"]
    docker("commit", *changes, maker, wanted)
    docker("rm", "-f", maker)
    for old in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", NAME).split():
        if old != wanted:
            run(["docker", "image", "rm", old], check=False)
    return wanted
