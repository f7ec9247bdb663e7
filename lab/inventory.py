"""The lab's hosts in the shape a pyinfra inventory takes."""

from __future__ import annotations

import os
from typing import Any

from lab import tools
from lab.hetzner.daemon import find_hetzner
from lab.settings import find_settings
from lab.staging import staged


def hosts() -> list[tuple[str, dict[str, Any]]]:
    """(name, connection data) of every staged host; LabError when no lab is staged.

    Every verb on the lab reads this: from here on this process finds the lab's restic, whatever the machine has.
    """
    settings = find_settings()
    tools.put_on_path()
    return [
        (
            name,
            {
                "ssh_hostname": host.ip,
                "ssh_user": "root",
                "ssh_key": str(settings.key),
                "ssh_known_hosts_file": str(settings.known_hosts),
                "ssh_strict_host_key_checking": "yes",
                "role": host.role,
            },
        )
        for name, host in staged(settings).hosts.items()
    ]


def cloud_data() -> dict[str, Any]:
    """What replicas in the lab's Hetzner are given. From now on this process knows no other Hetzner."""
    settings = find_settings()
    os.environ.update(find_hetzner(settings).environment())
    return {"ssh_user": "root", "ssh_key": str(settings.key)}
