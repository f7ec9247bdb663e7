"""The wall around scratch networks: containers there reach each other and answer this host, nothing else.

Docker's ``internal`` keeps them from other networks, but not from what listens on this host itself.
"""

from __future__ import annotations

import shutil

from .. import process
from ..data import engine
from ..errors import AgentError
from .model import BRIDGE

__all__ = ["TABLE", "down", "present", "rules", "up"]

TABLE = "understudy_drill"
_TIMEOUT = 30


def rules() -> str:
    """What nft reads, in one transaction. It covers every scratch bridge, also one that comes later."""
    bridge = f'"{BRIDGE}*"'
    return f"""\
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain input {{
    type filter hook input priority -190; policy accept;
    iifname {bridge} ct direction reply ct state established accept
    iifname {bridge} drop
  }}
  chain forward {{
    type filter hook forward priority -190; policy accept;
    iifname {bridge} oifname {bridge} accept
    iifname {bridge} drop
    oifname {bridge} drop
  }}
}}
"""


def up() -> None:
    """Put the wall up, anew if it stands. Raises AgentError where that cannot be done: then nothing may start."""
    with engine.input_of(rules()) as feed:
        ended = process.run(["nft", "-f", "-"], _TIMEOUT, feed=feed)
    if not ended.ok or not present():
        raise AgentError(
            f"the network of a scratch copy cannot be closed off, so none is started: {ended.why(1)}"
        )


def present() -> bool:
    """Whether it stands."""
    return process.run(["nft", "list", "table", "inet", TABLE], _TIMEOUT).ok


def down() -> None:
    """Take it away; one that is not there is as wanted."""
    if shutil.which("nft") and present():
        ended = process.run(["nft", "delete", "table", "inet", TABLE], _TIMEOUT)
        if not ended.ok and present():
            raise AgentError(f"the table inet {TABLE} cannot be removed: {ended.why(1)}")
