"""Who listens where, from /proc: no tool needed."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import struct
from collections.abc import Iterator
from typing import Any

__all__ = ["listeners"]

# Socket states; a UDP socket that is connected to a peer has another one and serves nobody else.
_LISTENING = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}


def listeners() -> list[dict[str, Any]]:
    """Open sockets as {"proto", "address", "port", "process"}; process is None where it cannot be seen."""
    sockets = [(table, *row) for table in _LISTENING for row in _rows(table)]
    owners = _owners({inode for _, _, _, inode in sockets})
    found = {(table.rstrip("6"), address, port): owners.get(inode) for table, address, port, inode in sockets}
    names = ("proto", "address", "port", "process")
    return [
        dict(zip(names, (*key, process), strict=True))
        for key, process in sorted(found.items(), key=lambda item: item[0])
    ]


def _rows(table: str) -> Iterator[tuple[str, int, str]]:
    try:
        with open(f"/proc/net/{table}", encoding="ascii") as stream:
            lines = stream.readlines()[1:]
    except FileNotFoundError:  # IPv6 is off
        return
    for line in lines:
        fields = line.split()
        if fields[3] == _LISTENING[table]:
            address, port = fields[1].split(":")
            yield _address(address), int(port, 16), fields[9]


def _address(text: str) -> str:
    """The kernel prints 32-bit words in host byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def _owners(inodes: set[str]) -> dict[str, str]:
    """Socket inode to the name of the process that holds it."""
    found: dict[str, str] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if len(found) == len(inodes):
            break
        with contextlib.suppress(OSError):
            for inode in _sockets(pid) & inodes:
                found.setdefault(inode, _name(pid))
    return found


def _sockets(pid: str) -> set[str]:
    folder = f"/proc/{pid}/fd"
    held = set()
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            target = os.readlink(f"{folder}/{name}")
            if target.startswith("socket:["):
                held.add(target[8:-1])
    return held


def _name(pid: str) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
        return stream.read().strip()
