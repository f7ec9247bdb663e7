"""Safe updates: a fresh snapshot before a service changes its image, and the whole way back (protocol.md §10).

Request: {"action": "prepare", "services": {NAME: [paths of its files that will change]}}, or
{"action": "commit" | "rollback", "services": {NAME: []}}.
Reply: {"services": [{"service", "ok", "error", "snapshot", "seconds", "last_words"}]}.
An open record (``markers.open_updates``) means that nobody has yet said whether the new version serves.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import time
from typing import Any

from . import backup, lock, manifest, markers, process, restore
from .data import engine, ledger
from .data import plan as plans
from .disk import Disk
from .errors import AgentError, because
from .markers import UPDATES
from .root import MANIFEST, Root, checked
from .say import say

__all__ = ["last_words", "run"]

_FORMAT = 1
_WORDS = 12


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    action, services = request.get("action"), dict(request.get("services") or {})
    if action == "prepare":
        return {"services": _prepare(root, services)}
    if action == "commit":
        return {"services": [_commit(root, name) for name in services]}
    if action == "rollback":
        return {"services": [_rollback(root, name) for name in services]}
    raise AgentError(f"unknown action {action!r}: prepare, commit or rollback", "bad-request")


def _path(service: str) -> str:
    return checked(f"{UPDATES}/{service}.json")


def _prepare(root: Root, services: dict[str, list[str]]) -> list[dict[str, Any]]:
    plan, disk = plans.load(root), Disk(root)
    unknown = sorted(set(services) - set(plan.services))
    if unknown:
        raise AgentError(f"{unknown[0]} is in no backup on this host: nothing was changed", "refused")
    say(f"a snapshot of {', '.join(services)} before the update")
    reply = backup.run({"services": list(services), "reason": "update", "confirm": True}, root)
    rows = {name: [row for row in reply["services"] if row["service"] == name] for name in services}
    found = []
    for name, paths in services.items():
        good = next((row for row in rows[name] if row["ok"]), None)
        if good:
            _keep(disk, plan.services[name], paths, str(good["snapshot"]), str(good.get("repository") or ""))
        reason = next((row["error"] for row in rows[name] if row.get("error")), "it was not backed up")
        found.append(
            {
                "service": name,
                "ok": good is not None,
                "error": None if good else reason,
                "snapshot": good["snapshot"] if good else None,
            }
        )
    return found


def _keep(disk: Disk, service: plans.Service, paths: list[str], snapshot: str, repository: str) -> None:
    """Write down the way back, before anything of the service changes."""
    images = {name: facts for name, facts in engine.image_facts(service.project).items() if service.has(name)}
    files = {path: _file(disk.root, checked(path)) for path in paths}
    if service.name in markers.open_updates(disk.root):
        # A killed run has been here: its files are the ones of before, and once the images have changed its
        # snapshot is too.
        known = _load(disk.root, service.name)
        if known["images"] != images:
            return
        files = {**files, **known["files"]}
    record = {
        "format": _FORMAT,
        "service": service.name,
        "snapshot": snapshot,
        "repository": repository,
        "images": images,
        "files": files,
        "since": round(time.time()),
    }
    disk.private_dir(UPDATES)
    disk.replace(_path(service.name), json.dumps(record).encode())


def _file(root: Root, path: str) -> dict[str, Any] | None:
    """A file as it is now, None when there is none."""
    try:
        state = os.lstat(root.at(path))
        if not stat.S_ISREG(state.st_mode):
            return None
        with open(root.at(path), "rb") as stream:
            content = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {because(error)}; nothing was changed", "io") from error
    return {
        "content": base64.b64encode(content).decode(),
        "mode": stat.S_IMODE(state.st_mode),
        "uid": state.st_uid,
        "gid": state.st_gid,
    }


def _load(root: Root, service: str) -> dict[str, Any]:
    try:
        with open(root.at(_path(service)), encoding="utf-8") as stream:
            record: dict[str, Any] = json.load(stream)
    except FileNotFoundError:
        raise AgentError(f"no update of {service} is open on this host", "bad-request") from None
    if record.get("format") != _FORMAT:
        raise AgentError(f"{_path(service)} was written by another version of the agent", "broken")
    return record


def _close(root: Root, service: str) -> None:
    disk = Disk(root)
    disk.unlink(_path(service))
    disk.sync_dirs([UPDATES])


def _commit(root: Root, service: str) -> dict[str, Any]:
    record = _load(root, service)
    ledger.add(root, "update", service=service, snapshot=record["snapshot"], before=_names(record))
    _close(root, service)
    return {"service": service, "ok": True, "error": None, "snapshot": record["snapshot"]}


def _rollback(root: Root, service: str) -> dict[str, Any]:
    """Old files, old images, old data; each step may be repeated."""
    started, record = time.monotonic(), _load(root, service)
    entry = plans.load(root).services[service]
    words = last_words(entry)
    say(f"{service}: going back to snapshot {record['snapshot'][:8]} and the images of before")
    process.run([*entry.compose, "stop", *entry.containers], 300)
    _put_files_back(root, record)
    _tag_images(record)
    asked = {
        "services": [service],
        "snapshot": record["snapshot"],
        "repository": record["repository"],
        "confirm_loss": True,
        "allow_version": True,
        "reason": "update",
    }
    row = restore.run(asked, root)["services"][0]
    seconds = round(time.monotonic() - started, 1)
    error = None if row["ok"] else f"{service} could not be put back: {row['error']}"
    ledger.add(
        root, "update", service=service, ok=False, error=error or "did not serve; put back", seconds=seconds
    )
    if row["ok"]:
        _close(root, service)
    return {
        "service": service,
        "ok": row["ok"],
        "error": error,
        "snapshot": record["snapshot"],
        "seconds": seconds,
        "last_words": words,
    }


def _put_files_back(root: Root, record: dict[str, Any]) -> None:
    """The files of before, and a manifest that knows them as ours: the next converge compares with these."""
    disk = Disk(root)
    with lock.exclusive(root, "apply", f"put {record['service']} back", 120, say):
        for path, kept in record["files"].items():
            if kept is None:
                disk.unlink(path)
                continue
            folder, name = os.path.split(path)
            temp = f"{folder}/.{name}.understudy-back"
            disk.create(temp, [base64.b64decode(kept["content"])], kept["mode"], kept["uid"], kept["gid"])
            disk.rename(temp, path)
            disk.sync_dirs([folder])
        _tell_manifest(disk, record["files"])


def _tell_manifest(disk: Disk, files: dict[str, Any]) -> None:
    known = manifest.load(disk.root)
    if known is None:
        return
    entries = manifest.entries(known)
    for path, kept in files.items():
        if kept is None:
            entries.pop(path, None)
        elif path in entries:
            entries[path]["sha256"] = hashlib.sha256(base64.b64decode(kept["content"])).hexdigest()
    disk.replace(MANIFEST, manifest.render(known, manifest.created(known)))


def _tag_images(record: dict[str, Any]) -> None:
    """A tag that was pulled anew, or built here, means the old image again."""
    for facts in record["images"].values():
        if facts.get("id") and "@" not in facts["image"]:
            process.run(["docker", "image", "tag", facts["id"], facts["image"]], 60)


def last_words(service: plans.Service) -> list[str]:
    """What the containers of a service said last."""
    if not service.compose:
        return []
    words = ["logs", "--no-color", "--tail", str(_WORDS), *service.containers]
    ended = process.run([*service.compose, *words], 60)
    lines = [line.rstrip() for line in (ended.out or ended.err).splitlines() if line.strip()]
    return lines[-_WORDS:]


def _names(record: dict[str, Any]) -> dict[str, str]:
    return {name: str(facts["image"]) for name, facts in record["images"].items()}
