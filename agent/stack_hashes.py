"""The configuration hash Compose would give each service now, cached by everything it depends on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import process
from .disk import Disk
from .errors import because
from .root import CACHE, STATE, Root

__all__ = ["cache_key", "read"]

_FILE = f"{CACHE}/compose-hashes.json"
_FORMAT = "understudy compose hashes 1"
_PARALLEL = 4
_TIMEOUT = 30
_KEPT = 300
_ELSEWHERE = re.compile(rb"^\s*-?\s*[\"']?(env_file|include|extends|label_file)[\"']?\s*:", re.MULTILINE)
_PLUGINS = (
    "/root/.docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)

Stack = dict[str, Any]
Hashes = dict[str, Any]


def read(root: Root, stacks: list[Stack], keep: bool = True) -> dict[str, Hashes]:
    """Service to {compose service: hash}, or {"error": text} where Compose cannot tell; ``keep`` writes the cache.

    A stack that refers to files beyond ``files`` and ``env_file`` is asked anew each time, unless it lists
    them as ``inputs``: a stale hash would hide a change.
    """
    cache, compose = _load(root), _compose()
    keys = {stack["service"]: cache_key(root, stack, compose) for stack in stacks}
    waiting = [stack for stack in stacks if keys[stack["service"]] not in cache]
    with ThreadPoolExecutor(_PARALLEL) as pool:
        answers = pool.map(lambda stack: _ask(root, stack), waiting)
        fresh = {stack["service"]: answer for stack, answer in zip(waiting, answers, strict=True)}
    found = {name: fresh[name] if name in fresh else cache[str(key)] for name, key in keys.items()}
    new = {str(keys[name]): value for name, value in fresh.items() if keys[name] and "error" not in value}
    if new and keep:
        _store(root, {**cache, **new})
    return found


def _compose() -> str:
    """What identifies the Compose in use, without starting it: path, size and time of the programs."""
    candidates = [f"{folder}/docker-compose" for folder in _PLUGINS]
    programs = [shutil.which("docker"), *(path for path in candidates if os.path.exists(path))]
    stats = [(path, os.stat(path)) for path in programs if path]
    return json.dumps([(path, info.st_size, info.st_mtime_ns) for path, info in stats])


def cache_key(root: Root, stack: Stack, compose: str) -> str | None:
    """A digest of everything the hashes depend on, or None where that is not known or not readable."""
    env_file = stack.get("env_file") or f"{stack['path']}/.env"
    inputs = stack.get("inputs")
    contents = [_content(root, path) for path in stack["files"]]
    if None in contents or (inputs is None and any(_ELSEWHERE.search(text or b"") for text in contents)):
        return None
    rest = [_content(root, path) for path in (env_file, *(inputs or ()))]
    digests = [None if text is None else hashlib.sha256(text).hexdigest() for text in (*contents, *rest)]
    names = [
        stack["project"],
        stack["path"],
        stack["files"],
        env_file,
        inputs,
        sorted(stack.get("profiles") or []),
    ]
    return hashlib.sha256(json.dumps([_FORMAT, compose, digests, names]).encode()).hexdigest()


def _content(root: Root, path: str) -> bytes | None:
    try:
        with open(root.at(path), "rb") as stream:
            return stream.read()
    except OSError:
        return None


def _ask(root: Root, stack: Stack) -> Hashes:
    missing = next((path for path in stack["files"] if _unreadable(root, path)), None)
    if missing:
        return {"error": f"{missing}: {_unreadable(root, missing)}"}
    ended = _resolved(root, stack) if _reads_others(root, stack) else _direct(root, stack)
    if not ended.ok:
        return {"error": ended.why()}
    rows = [line.split() for line in ended.out.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _direct(root: Root, stack: Stack) -> process.Finished:
    return process.run([*_argv(root, stack), "config", "--hash", "*"], _TIMEOUT)


def _reads_others(root: Root, stack: Stack) -> bool:
    return any(_ELSEWHERE.search(_content(root, path) or b"env_file:") for path in stack["files"])


def _resolved(root: Root, stack: Stack) -> process.Finished:
    """In two steps: `config --hash` forgets what env_file brings, `up` does not, so the labels would never fit.

    The resolved model may hold secrets, so it goes from one to the other in memory.
    """
    model = process.run([*_argv(root, stack), "config", "--format", "json"], _TIMEOUT)
    if not model.ok:
        return model
    with open(os.memfd_create("model"), "w+b") as feed:
        feed.write(model.out.encode())
        feed.seek(0)
        argv = [*_argv(root, {**stack, "files": [], "env_file": None}), "--file", "-"]
        return process.run([*argv, "config", "--hash", "*"], _TIMEOUT, feed=feed)


def _unreadable(root: Root, path: str) -> str | None:
    try:
        with open(root.at(path), "rb"):
            return None
    except OSError as error:
        return because(error)


def _argv(root: Root, stack: Stack) -> list[str]:
    argv = [
        "docker",
        "compose",
        "--project-name",
        stack["project"],
        "--project-directory",
        root.at(stack["path"]),
    ]
    for path in stack["files"]:
        argv += ["--file", root.at(path)]
    if stack.get("env_file"):
        argv += ["--env-file", root.at(stack["env_file"])]
    for profile in stack.get("profiles") or []:
        argv += ["--profile", profile]
    return argv


def _load(root: Root) -> dict[str, Hashes]:
    try:
        with open(root.at(_FILE), "rb") as stream:
            cache = json.load(stream)
    except (OSError, ValueError):
        return {}
    return cache if isinstance(cache, dict) else {}


def _store(root: Root, cache: dict[str, Hashes]) -> None:
    """A cache that cannot be written only costs time; a host that we never changed is not given one."""
    if not os.path.isdir(root.at(STATE)):
        return
    newest = dict(list(cache.items())[-_KEPT:])
    disk = Disk(root)
    try:
        disk.private_dir(CACHE)
        disk.replace(_FILE, json.dumps(newest).encode())
    except OSError:
        return
