"""Keeps everyone but our own probes away from a service while its restored data is not proven.

An nftables table of its own, ``inet understudy_fence_SERVICE``, rejects new connections to the service's ports on
every address of this host. It stands before Docker's address translation, so that published ports are seen as
they are published. Probes come from 127.0.0.254. The table is gone after a boot; ``recover`` puts it back before
Docker starts, where an unfinished restore needs it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence

from . import process
from .errors import AgentError

__all__ = ["SOURCE", "apply", "down", "possible", "program", "removal", "ruleset", "table", "up"]

SOURCE = "127.0.0.254"
_TIMEOUT = 30
_SEARCH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def table(service: str) -> str:
    """The name of a service's table; nothing in it has a meaning to nft."""
    return "understudy_fence_" + re.sub(r"[^A-Za-z0-9]", lambda match: f"_{ord(match[0]):x}_", service)


def ruleset(service: str, ports: Sequence[int]) -> str:
    """What ``nft -f -`` is given: the fence as it should be, whatever was there before, in one transaction."""
    name = table(service)
    listed = ", ".join(str(port) for port in sorted(set(ports)))
    refused = f"meta l4proto {{ tcp, udp }} th dport {{ {listed} }} ct state new fib daddr type local reject"
    return f"""\
table inet {name}
delete table inet {name}
table inet {name} {{
\tchain arriving {{
\t\ttype filter hook prerouting priority -150; policy accept;
\t\tiifname "lo" ip saddr {SOURCE} accept
\t\t{refused}
\t}}
\tchain leaving {{
\t\ttype filter hook output priority -150; policy accept;
\t\tip saddr {SOURCE} accept
\t\t{refused}
\t}}
}}
"""


def removal(service: str) -> str:
    """What takes the fence away, and is right when there is none."""
    name = table(service)
    return f"table inet {name}\ndelete table inet {name}\n"


def possible() -> bool:
    """Whether this host has nft."""
    return program() is not None


def program() -> str | None:
    """Where nft is, None where it is not."""
    return shutil.which("nft") or shutil.which("nft", path=_SEARCH)


def up(service: str, ports: Sequence[int]) -> bool:
    """Put the fence up. False where there is nothing to fence or no nft on the host. Raises AgentError."""
    if not ports or not possible():
        return False
    apply(ruleset(service, ports), f"{service} cannot be fenced")
    return True


def down(service: str, ports: Sequence[int]) -> None:
    """Take the fence away; none is as wanted. Raises AgentError."""
    if ports and possible():
        apply(removal(service), f"the fence of {service} cannot be lifted")


def apply(text: str, failed: str) -> None:
    """Give nft a ruleset; ``failed`` begins the sentence when it does not take it. Raises AgentError."""
    with tempfile.TemporaryFile() as feed:
        feed.write(text.encode())
        feed.seek(0)
        ended = process.run([program() or "nft", "-f", "-"], _TIMEOUT, feed=feed)
    if not ended.ok:
        raise AgentError(f"{failed}: {ended.why()}", "fence")
