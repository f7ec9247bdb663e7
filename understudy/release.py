"""Builds the one upload that changes a host's files: archive, manifest, validators (protocol.md §9)."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
import time
from collections.abc import Iterable, Mapping
from typing import Any

from .compare import FileChange
from .desired import Desired, Validator
from .tree import Entry


def build(
    desired: Desired,
    changes: Iterable[FileChange],
    release: str | None = None,
    *,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The request of the agent's ``apply`` verb for these changes.

    ``before`` is the host's own manifest, when only a part of what differs is to be written: what is not written
    now keeps the record of when it was.
    """
    changes = list(changes)
    written = [desired.tree.entries[c.path] for c in changes if c.action != "delete"]
    paths = {entry.path for entry in written}
    checks = [v for v in desired.validators if paths & set(v.needs)]
    context = sorted({path for check in checks for path in check.needs} - paths)
    return {
        "release": release or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        "entries": [_described(index, entry) for index, entry in enumerate(written)],
        "archive": archive(written),
        "expect": {c.path: c.observed for c in changes},
        "delete": [{"path": c.path, "sha256": c.observed} for c in changes if c.action == "delete"],
        "manifest": manifest(desired) if before is None else _partly(before, manifest(desired), changes),
        "validators": [_check(v) for v in checks],
        "context": context,
    }


def archive(entries: Iterable[Entry]) -> str:
    """A gzipped tar in base64; members are named by index and carry no times or owners."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for index, entry in enumerate(entries):
            if entry.kind == "file":
                member = tarfile.TarInfo(str(index))
                member.size, member.mode = len(entry.content), 0o600
                tar.addfile(member, io.BytesIO(entry.content))
    return base64.b64encode(buffer.getvalue()).decode()


def manifest(desired: Desired) -> dict[str, Any]:
    """What we will have written: the only files we may ever delete again."""
    entries = {
        entry.path: {
            "kind": entry.kind,
            "sha256": entry.sha256,
            "mode": f"{entry.mode:04o}",
            "service": entry.service,
        }
        for entry in desired.tree
    }
    return {"version": 1, "entries": entries}


def _partly(
    before: Mapping[str, Any], wanted: dict[str, Any], changes: Iterable[FileChange]
) -> dict[str, Any]:
    entries = dict(before.get("entries") or {})
    for change in changes:
        if change.action == "delete":
            entries.pop(change.path, None)
        else:
            entries[change.path] = wanted["entries"][change.path]
    return {**wanted, "entries": entries}


def _described(index: int, entry: Entry) -> dict[str, Any]:
    return {
        "index": index,
        "path": entry.path,
        "kind": entry.kind,
        "mode": entry.mode,
        "user": entry.user,
        "group": entry.group,
        "sha256": entry.sha256,
        "target": entry.target,
        "secret": entry.secret,
        "service": entry.service,
        "reaction": entry.reaction,
    }


def _check(validator: Validator) -> dict[str, Any]:
    return {
        "name": validator.name,
        "argv": list(validator.argv),
        "timeout": validator.timeout,
        "service": validator.service,
    }
