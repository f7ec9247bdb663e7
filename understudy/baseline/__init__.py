"""The host below the stacks: packages, limits, Docker's configuration, sshd, updates, our own directories.

Everything here is pure: settings in, files, package names, units and validators out.
"""

from .daemon import DAEMON_JSON, DaemonJsonError, docker_keys, merge_daemon_json
from .files import AGENT, entries, tree
from .packages import PlatformError, candidates, packages, platform
from .ssh import SSHD_DROP_IN, connection_faults, permit_root, sshd_problems
from .system import other_time_daemon, units, validators

__all__ = [
    "AGENT",
    "DAEMON_JSON",
    "SSHD_DROP_IN",
    "DaemonJsonError",
    "PlatformError",
    "candidates",
    "connection_faults",
    "docker_keys",
    "entries",
    "merge_daemon_json",
    "other_time_daemon",
    "packages",
    "permit_root",
    "platform",
    "sshd_problems",
    "tree",
    "units",
    "validators",
]
