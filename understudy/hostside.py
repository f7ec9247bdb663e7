"""Calls the agent on a host: one shell command, two lines of standard input, one line of reply.

Nothing is installed for it and no file is left behind: the agent's sources travel in the first line and are
imported from memory. Requests, which may hold secrets, travel only on standard input.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import shlex
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .agent import WIRE
from .agent.entry import PROTECTING, VERBS
from .errors import UnderstudyError

__all__ = ["HostsideError", "bundle", "command", "parse", "stdin", "zipapp"]

_PACKAGE = Path(__file__).parent / "agent"
_EPOCH = (1980, 1, 1, 0, 0, 0)

# Runs on the host before anything of ours is there: one line of plain Python 3, double quotes only. All of
# standard input is read first, because the sender does not read the answer before it has written everything.
_BOOT = ";".join(
    (
        "import sys,os,base64,zlib,json",
        "d=sys.stdin.buffer.read().split()",
        'e="python3 here is %d.%d and 3.10 is needed"%sys.version_info[:2]',
        f'r={{"understudy":{WIRE},"reply":{{"error":e,"kind":"refused"}}}}',
        "sys.version_info<(3,10)and(print(json.dumps(r)),sys.exit())",
        'f=os.memfd_create("understudy")',
        "os.write(f,base64.b64decode(d[0]))",
        'sys.path.insert(0,"/proc/self/fd/%d"%f)',
        "import agent",
        "agent.main(sys.argv[1],json.loads(zlib.decompress(base64.b64decode(d[1]))))",
    )
)


class HostsideError(UnderstudyError):
    """The host's own sentence; ``kind`` and ``details`` as in agent/errors.py ("no-answer": none came)."""

    def __init__(self, sentence: str, kind: str = "no-answer", details: dict[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.details = details or {}


@functools.lru_cache(maxsize=2)
def bundle(package: str = "") -> bytes:
    """The part of the agent that travels with each call, as a zip; the same sources give the same bytes.

    What protects data runs from the installed zipapp only, so it stays out; ``package`` is a verb that is a folder.
    """
    stay = {f"agent/{verb}.py" for verb in PROTECTING}
    goes = {n: content for n, content in _sources().items() if n.count("/") == 1 and n not in stay}
    if package:
        goes |= {n: content for n, content in _sources().items() if n.startswith(f"agent/{package}/")}
    return _zip(goes)


def zipapp() -> bytes:
    """The agent as an executable file for units on the host: ``/usr/lib/understudy/agent.pyz VERB``."""
    main = b"from agent.__main__ import run\n\nrun()\n"
    return b"#!/usr/bin/python3 -IB\n" + _zip({**_sources(), "__main__.py": main})


def _sources() -> dict[str, bytes]:
    found = sorted(_PACKAGE.rglob("*.py"))
    return {f"agent/{path.relative_to(_PACKAGE).as_posix()}": path.read_bytes() for path in found}


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(files.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, compresslevel=9)
    return buffer.getvalue()


def command(verb: str) -> str:
    """The shell command that runs one verb; feed it ``stdin(request)``."""
    if verb not in VERBS:
        raise ValueError(f"unknown verb {verb!r}")
    return f"python3 -IB -c {shlex.quote(_BOOT)} {verb}"


def stdin(request: dict[str, Any], package: str = "") -> str:
    """Two lines: the agent (with this folder of it), and the request (zlib, base64)."""
    packed = zlib.compress(json.dumps(request, separators=(",", ":")).encode(), 6)
    return f"{base64.b64encode(bundle(package)).decode()}\n{base64.b64encode(packed).decode()}\n"


def parse(stdout_lines: Iterable[str]) -> dict[str, Any]:
    """The reply among whatever else the login printed. Raises HostsideError with the host's own sentence."""
    lines = [line.strip() for line in stdout_lines if line.strip()]
    for line in reversed(lines):
        reply = _reply(line)
        if reply is not None:
            return _checked(reply)
    said = f"it said {lines[-1][:200]!r}" if lines else "it said nothing: is python3 (3.10 or newer) there?"
    raise HostsideError(f"the host gave no answer that we know; {said}")


def _reply(line: str) -> dict[str, Any] | None:
    if '"understudy"' not in line or not line.endswith("}"):
        return None
    try:
        # A prompt or an escape sequence without a line end may stand before it.
        value = json.loads(line[line.index('{"understudy"') :])
    except ValueError:
        return None
    reply = value.get("reply") if isinstance(value, dict) and value.get("understudy") == WIRE else None
    return reply if isinstance(reply, dict) else None


def _checked(reply: dict[str, Any]) -> dict[str, Any]:
    if "error" not in reply:
        return reply
    details = {key: value for key, value in reply.items() if key not in ("error", "kind")}
    raise HostsideError(str(reply["error"]), str(reply.get("kind", "internal")), details)
