"""Redis and Valkey: the server's own snapshot over its replication command, and its way back into a data folder.

Nothing is loaded into a running server: the dump is placed in the new tree before the server starts. Where the
server keeps an append-only file, it reads that one first, so the dump is placed as its base as well.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Sequence
from typing import Any

from ..data import engine
from ..data.plan import Database
from ..errors import AgentError, because
from ..process import Finished
from ..root import Root
from . import redis_format
from .common import Clock, Dump, Loaded, Place, file_name, sha256_of
from .server import Server, container, limited, run

__all__ = ["dump", "listed", "load"]

# The password, if any: from the image's usual variables, a configuration file ($1), or else our standard input.
PRELUDE = """\
conf=$1; shift
for name in redis-cli valkey-cli keydb-cli; do cli=$(command -v "$name") && break; done
[ -n "$cli" ] || { echo "neither redis-cli nor valkey-cli is in this image" >&2; exit 127; }
if [ -z "${REDISCLI_AUTH:-}" ]; then
  IFS= read -r REDISCLI_AUTH || true
  for name in REDIS_PASSWORD VALKEY_PASSWORD; do
    [ -n "$REDISCLI_AUTH" ] || eval "REDISCLI_AUTH=\\${$name:-}"
    eval "file=\\${${name}_FILE:-}"
    if [ -z "$REDISCLI_AUTH" ] && [ -n "$file" ]; then REDISCLI_AUTH="$(cat "$file")"; fi
  done
  if [ -z "$REDISCLI_AUTH" ] && [ -n "$conf" ] && [ -r "$conf" ]; then
    REDISCLI_AUTH="$(sed -n 's/^ *requirepass  *"\\{0,1\\}\\([^"]*\\)"\\{0,1\\} *$/\\1/p' "$conf" | tail -n 1)"
  fi
fi
if [ -n "$REDISCLI_AUTH" ]; then export REDISCLI_AUTH; else unset REDISCLI_AUTH; fi
export cli"""

_FACTS = """\
"$cli" INFO || exit 1
for key in appendonly dir dbfilename appendfilename appenddirname; do
  echo "config:$key=$("$cli" --raw CONFIG GET "$key" | sed -n 2p)"
done
pid=$("$cli" INFO server | tr -d '\\015' | sed -n 's/^process_id://p')
echo "config:owner=$(stat -c '%u %g' "/proc/${pid:-1}")"
"""

_DEFAULTS = {
    "appendonly": "no", "dir": "/data", "dbfilename": "dump.rdb", "appendfilename": "appendonly.aof",
    "appenddirname": "appendonlydir", "owner": "",
}  # fmt: skip
_KEYSPACE = re.compile(r"db(\d+):keys=(\d+),expires=(\d+)")


def facts_argv(conf: str, limit: float) -> list[str]:
    """INFO, the configuration that matters, and the user that the server runs as."""
    return limited(PRELUDE, [conf], ["sh", "-c", _FACTS], limit)


def dump_argv(conf: str, limit: float) -> list[str]:
    """The server's snapshot to standard output."""
    return limited(PRELUDE, [conf], ["sh", "-c", 'exec "$cli" --rdb -'], limit)


def check_argv(limit: float) -> list[str]:
    """Read a snapshot from standard input with the server's own checker, where the image has it."""
    script = (
        "for name in redis-check-rdb valkey-check-rdb; do "
        'if command -v "$name" >/dev/null; then exec "$name" /dev/stdin; fi; done; exit 0'
    )
    return limited(":", [], ["sh", "-c", script], limit)


def _login(where: str) -> tuple[str, str]:
    """(configuration file or "", password given on the server's command line or "")."""
    seen = engine.inspect(where)
    words = [str(seen.get("Path") or ""), *map(str, seen.get("Args") or [])]
    return _login_of(words)


def _login_of(words: Sequence[str]) -> tuple[str, str]:
    conf = next((word for word in words if word.endswith(".conf")), "")
    with contextlib.suppress(ValueError, IndexError):
        return conf, words[words.index("--requirepass") + 1]
    return conf, ""


def _run(where: str, argv: Sequence[str], password: str, limit: float, into: Any = None) -> Finished:
    with engine.input_of(f"{password}\n") as feed:
        return run(where, argv, limit, feed=feed, into=into)


def dump(place: Place, timeout: float) -> list[Dump]:
    """Dump the server. Raises AgentError (kind "dump" or "docker")."""
    clock, database = Clock(timeout), place.database
    where = container(database)
    conf, password = _login(where)
    told = _told(place, where, conf, password, clock)
    file = file_name(database.name, end=".rdb")
    temp, descriptor = place.create(file)
    try:
        with open(descriptor, "r+b") as stream:
            limit = clock.left
            ended = _run(where, dump_argv(conf, limit), password, limit, stream)
            if not ended.ok:
                raise place.failed(f"not done after {limit:g} s" if ended.code == 124 else ended.why(2))
            redis_format.trimmed(stream)
        known = redis_format.facts(temp)
        sha, size = place.keep(temp, file, lambda: _checked(place, where, temp, clock), redis_format.same)
    except ValueError as error:
        raise place.failed(str(error)) from error
    except OSError as error:
        raise place.failed(because(error)) from error
    finally:
        place.drop(temp)
    rows, expires = _rows(told["keyspace"], known)
    owner = tuple(int(n) for n in told["owner"].split()) if told["owner"] else None
    extra = {**_extra(where, told), "expires": expires}
    full = (owner[0], owner[1], 0o600) if owner and len(owner) == 2 else None
    return [Dump(database.name, f"dumps/{file}", "redis", sha, size, rows, told["version"], full, extra)]


def _told(place: Place, where: str, conf: str, password: str, clock: Clock) -> dict[str, Any]:
    limit = min(60.0, clock.left)
    ended = _run(where, facts_argv(conf, limit), password, limit)
    try:
        if not ended.ok:
            raise ValueError(ended.why(1))
        return parse(ended.out)
    except ValueError as error:
        raise place.failed(str(error)) from error


def parse(out: str) -> dict[str, Any]:
    """What the server told: version, keyspace (number -> (keys, expiring)) and configuration. Raises ValueError."""
    lines = out.splitlines()
    info = dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("config:"))
    if "redis_version" not in info:
        word = "NOAUTH" if "NOAUTH" in out else (lines[0] if lines else "no answer")
        hint = ": give its password to the container as REDIS_PASSWORD or REDIS_PASSWORD_FILE"
        raise ValueError(f"the server says {word}{hint if word == 'NOAUTH' else ''}")
    found = dict(line[len("config:") :].split("=", 1) for line in lines if line.startswith("config:"))
    config = {key: found.get(key) or default for key, default in _DEFAULTS.items()}
    spaces = (_KEYSPACE.match(line) for line in lines)
    return {
        **config,
        "product": "valkey" if info.get("server_name") == "valkey" else "redis",
        "version": info.get("valkey_version") or info["redis_version"],
        "keyspace": {int(m[1]): (int(m[2]), int(m[3])) for m in spaces if m},
    }


def _rows(
    keyspace: dict[int, tuple[int, int]], known: redis_format.Facts
) -> tuple[dict[str, int], dict[str, int]]:
    """Keys per database as the server said just before; the first one's as the dump itself says."""
    rows = {f"db{number}": keys for number, (keys, _) in sorted(keyspace.items())}
    if known.first is not None:
        rows[f"db{known.first[0]}"] = known.first[1]
    return rows, {f"db{number}": count for number, (_, count) in sorted(keyspace.items())}


def _extra(where: str, told: dict[str, Any]) -> dict[str, Any]:
    """``folder``: where the server's files lie in the mount that holds them, None when in none."""
    places = [str(m.get("Destination") or "") for m in engine.inspect(where).get("Mounts") or []]
    folder = folder_of(str(told["dir"]), places)
    keys = ("product", "appendonly", "dbfilename", "appendfilename", "appenddirname")
    return {"folder": folder, **{key: told[key] for key in keys}}


def folder_of(path: str, mounts: Sequence[str]) -> str | None:
    """A path inside a container, relative to the innermost mount it lies in; None when in none."""
    over = [m for m in mounts if path == m or path.startswith(m.rstrip("/") + "/")]
    return os.path.relpath(path, max(over, key=len)).replace(".", "", 1) if over else None


def _checked(place: Place, where: str, temp: str, clock: Clock) -> None:
    limit = clock.left
    with open(temp, "rb") as stream:
        ended = run(where, check_argv(limit), limit, feed=stream)
    if not ended.ok:
        said = [line for line in ended.out.splitlines() if line.startswith("---") is False and line.strip()]
        raise place.failed(f"the dump cannot be read back: {said[-1] if said else ended.why(1)}")


def listed(database: Database, timeout: float) -> Server:
    """Version and keys of each database ("db0")."""
    where = container(database)
    conf, password = _login(where)
    ended = _run(where, facts_argv(conf, timeout), password, timeout)
    try:
        if not ended.ok:
            raise ValueError(ended.why(1))
        told = parse(ended.out)
    except ValueError as error:
        raise AgentError(f"Redis in {database.project}/{database.container}: {error}", "database") from error
    return Server(
        "redis", told["version"], {f"db{n}": keys for n, (keys, _) in sorted(told["keyspace"].items())}
    )


def load(
    root: Root, database: Database, facts: dict[str, Any], file: str, staging: str, timeout: float
) -> Loaded:
    """Place the dump in the new tree of the mount that holds the server's files (empty, nobody uses it yet).

    The server counts its keys only when it runs: compare ``listed`` with ``rows`` then, less what has expired.
    """
    started, extra = time.monotonic(), facts["extra"]
    if extra.get("folder") is None:
        raise AgentError(f"{database.name}: the server's folder is in no mount: it has nowhere to be placed")
    folder = f"{staging}/{extra['folder']}".rstrip("/")
    try:
        if sha256_of(root.at(file)) != facts["sha256"]:
            raise AgentError(f"{file} is not the dump its manifest names: take another snapshot", "mismatch")
        redis_format.facts(root.at(file))
        _folder(root, folder, facts["owner"])
        _copy(root, file, f"{folder}/{extra['dbfilename']}", facts["owner"])
        if extra["appendonly"] == "yes":
            _append_only(root, facts, file, folder)
    except ValueError as error:
        raise AgentError(f"{database.name}: {file}: {error}", "mismatch") from error
    except OSError as error:
        raise AgentError(f"{database.name}: {folder} cannot be written: {because(error)}", "io") from error
    seconds = round(time.monotonic() - started, 3)
    return Loaded(
        database.name, "redis", facts["rows"], facts["bytes"], seconds, f"{folder}/{extra['dbfilename']}"
    )


def _append_only(root: Root, facts: dict[str, Any], file: str, folder: str) -> None:
    """The append-only file whose base is the dump: a folder with a manifest since version 7, one file before."""
    extra, owner = facts["extra"], facts["owner"]
    name = extra["appendfilename"]
    if extra["product"] == "redis" and int(facts["version"].split(".")[0]) < 7:
        _copy(root, file, f"{folder}/{name}", owner)
        return
    parts = f"{folder}/{extra['appenddirname']}"
    shutil.rmtree(root.at(parts), ignore_errors=True)
    _folder(root, parts, owner)
    base = f"{name}.1.base.rdb"
    _copy(root, file, f"{parts}/{base}", owner)
    _write(root, f"{parts}/{name}.manifest", f"file {base} seq 1 type b\n".encode(), owner)


def _folder(root: Root, path: str, owner: list[int] | None) -> None:
    """A folder of the server's own; one that is there keeps its owner and mode."""
    if os.path.isdir(root.at(path)):
        return
    os.makedirs(root.at(path), mode=0o700)
    if owner and root.may_own:
        os.chown(root.at(path), owner[0], owner[1])


def _copy(root: Root, source: str, target: str, owner: list[int] | None) -> None:
    with open(root.at(source), "rb") as stream:
        _write(root, target, iter(lambda: stream.read(1 << 20), b""), owner)


def _write(root: Root, path: str, content: Any, owner: list[int] | None) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(root.at(path))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(root.at(path), flags, 0o600), "wb") as out:
        if owner and root.may_own:
            os.fchown(out.fileno(), owner[0], owner[1])
        for piece in [content] if isinstance(content, bytes) else content:
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
