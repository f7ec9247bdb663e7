"""The scheduled tamper test: do to a repository of its own what a stolen host key could, then undo it.

It runs in the group ``tamper`` of the same store, so the owner's data is never touched. Passed means: the host's key
could hide and overwrite, could not remove a version nor switch versions off, and the moment before came back whole.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from calendar import timegm
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import BadInput, UnderstudyError
from . import listing
from .objects import Bucket, StoreError, Version
from .restic import AdminRepository, ResticError, Session, opened
from .unhide import kind_of, unhide

__all__ = ["GROUP", "append_only", "tamper"]

GROUP = "tamper"
KINDS = ("data", "index", "snapshots")
REFUSED = (
    "AccessDenied",
    "UnauthorizedAccess",
    "Forbidden",
    "403",
    "NotImplemented",
    "MethodNotAllowed",
    "InvalidRequest",
)
_FILES = 12

Say = Callable[[str], None]


@dataclass(frozen=True)
class Blow:
    """One object and what was done to it; ``before`` is its good version."""

    how: str
    kind: str
    before: Version


def tamper(host: AdminRepository, admin: AdminRepository, say: Say | None = None) -> dict[str, Any]:
    """Run the test. Returns a ledger record of kind ``tamper``; what failed stands in ``error``.

    ``host`` and ``admin`` are the group ``tamper`` of one repository, with the host's key and with the admin key.
    The record: hidden, overwritten, noticed (restic refused the damaged repository), refused (attempts the store
    refused the host's key), compared (files restored and equal), unhide (its counts), seconds. Raises BadInput
    when this is not a repository made for it.
    """
    _dedicated(host, admin)
    record: dict[str, Any] = {
        "kind": "tamper",
        "repository": admin.name,
        "group": GROUP,
        "ok": False,
        "error": None,
        "hidden": 0,
        "overwritten": 0,
        "noticed": False,
        "refused": 0,
        "compared": 0,
    }
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="understudy-tamper-") as folder:
            _test(host, admin, folder, record, say or (lambda _: None))
        record["ok"] = True
    except (UnderstudyError, OSError) as error:
        record["error"] = str(error)
    return record | {"seconds": round(time.monotonic() - started, 3), "at": round(time.time(), 3)}


def _dedicated(host: AdminRepository, admin: AdminRepository) -> None:
    _in_its_group(host, admin)
    if host.url != admin.url:
        raise BadInput(f"{admin.label}: the tamper test needs both keys of one repository")


def _in_its_group(*repositories: AdminRepository) -> None:
    for one in repositories:
        if one.group != GROUP or one.url.rstrip("/").rpartition("/")[2] != GROUP:
            raise BadInput(f"{one.label}: the tamper test runs only in the group {GROUP!r} made for it")


def _test(
    host: AdminRepository, admin: AdminRepository, folder: str, record: dict[str, Any], say: Say
) -> None:
    theirs, ours = Bucket(host), Bucket(admin)
    _clear(ours)
    with opened(host) as session:
        snapshots = _fill(session, folder)
    say("a repository of its own is filled")
    # Stores date to the second: the moment to return to must lie in one that nothing else shares.
    time.sleep(1.5)
    moment = _clock(ours)
    time.sleep(1.5)
    blows = _attack(theirs, ours)
    record["hidden"] = sum(1 for blow in blows if blow.how == "hide")
    record["overwritten"] = len(blows) - record["hidden"]
    record["noticed"] = not _restores(host, snapshots, folder, "damaged")
    if not record["noticed"]:
        raise UnderstudyError(f"{admin.label}: the attack did no damage, so the test shows nothing")
    say("hidden and overwritten with the host's key")
    record["refused"] = _forbidden(theirs, ours, blows)
    say("the store refused to remove versions")
    found = unhide(admin, moment, dry_run=False, say=say)
    record["unhide"] = found["changes"]
    if not _restores(admin, snapshots, folder, "back"):
        raise UnderstudyError(f"{admin.label}: what came back differs from what was backed up")
    record["compared"] = _FILES * len(snapshots)


def _clear(bucket: Bucket) -> None:
    """Empty the test's own prefix for good (nothing else lies there: ``_dedicated``)."""
    for entries in bucket.versions().values():
        for version in entries:
            bucket.remove(version)


def _fill(session: Session, folder: str) -> list[tuple[str, dict[str, str]]]:
    """Two backups of different files: (snapshot, relative path → hash) each."""
    try:
        listing.listed(session)
    except ResticError as error:
        if error.kind != "no-repository":
            raise
        session.run(["init", "--json"], 120, lock=True)
        listing.adopt(session)
    made = []
    for number in (1, 2):
        source = Path(folder, f"source{number}")
        source.mkdir()
        for name in range(_FILES):
            (source / f"file{name}").write_bytes(os.urandom(50_000))
        argv = ["backup", "--json", "--host", GROUP, "--tag", "understudy-tamper", "."]
        done = session.run(argv, 300, lock=True, cwd=str(source))
        made.append((str(done.summary["snapshot_id"]), _hashes(source)))
    return made


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    return {str(one.relative_to(folder)): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


def _clock(bucket: Bucket) -> float:
    """Now, by the store's clock (to the second)."""
    stamp = bucket.ask("head_bucket")["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return float(timegm(time.strptime(stamp, "%a, %d %b %Y %H:%M:%S GMT")))
    except ValueError:
        return time.time() // 1


def _attack(theirs: Bucket, ours: Bucket) -> list[Blow]:
    """Hide one object of each kind and overwrite another, with the host's key."""
    present = [entries[0] for entries in ours.versions().values() if not entries[0].marker]
    blows = []
    for kind in KINDS:
        some = [one for one in present if kind_of(one.key, ours.place.prefix) == kind]
        if len(some) < 2:
            raise UnderstudyError(f"{ours.label}: two objects in {kind} are needed, there are {len(some)}")
        # The largest: of the packs those with the files, not with the marks.
        first, second = sorted(some, key=lambda one: (-one.size, one.key))[:2]
        theirs.hide(first.key)
        theirs.put(second.key, os.urandom(second.size))
        blows += [Blow("hide", kind, first), Blow("overwrite", kind, second)]
    return blows


def _forbidden(theirs: Bucket, ours: Bucket, blows: Sequence[Blow]) -> int:
    """Try to make it final with the host's key. Returns how many attempts the store refused; raises for one it let."""
    after = ours.versions()
    tries: list[tuple[str, Callable[[], Any]]] = []
    for blow in blows:
        tries.append((f"remove a version of {blow.kind}", partial(theirs.remove, blow.before)))
        tries.append(
            (f"remove what lies over {blow.kind}", partial(theirs.remove, after[blow.before.key][0]))
        )
    # Asking for what is so already shows the right without doing harm.
    same = partial(theirs.ask, "put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    tries.append(("switch versions off", same))
    count = 0
    for what, attempt in tries:
        try:
            attempt()
        except StoreError as error:
            if error.code not in REFUSED:
                raise
            count += 1
        else:
            raise UnderstudyError(
                f"{theirs.label}: the host's key may {what}: whoever steals it can destroy the backups; make a key"
                " without that right (B2: without deleteFiles and writeBuckets)"
            )
    return count


def _restores(
    repository: AdminRepository, snapshots: Sequence[tuple[str, dict[str, str]]], folder: str, name: str
) -> bool:
    """Whether all snapshots restore to what was backed up, read without a cache."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        fresh = AdminRepository(**{**repository.__dict__, "cache_dir": cache})
        for snapshot, hashes in snapshots:
            target = Path(folder, name, snapshot)
            try:
                with opened(fresh) as session:
                    session.run(["restore", "--json", snapshot, "--target", str(target)], 300)
            except ResticError:
                return False
            if _hashes(target) != hashes:
                return False
    return True


def append_only(host: AdminRepository) -> dict[str, Any]:
    """The test for a rest: repository that says it is append-only. Returns a ledger record of kind ``tamper``.

    With the host's key: delete and overwrite a pack, an index, a snapshot, a key and the config; all must be
    refused and the repository must restore. Its snapshots stay: each run adds one small one. Raises BadInput.
    """
    _in_its_group(host)
    if not re.match("rest:https?://", host.url):
        raise BadInput(f"{host.label}: this test speaks to rest: repositories only")
    record: dict[str, Any] = {
        "kind": "tamper",
        "repository": host.name,
        "group": GROUP,
        "ok": False,
        "error": None,
    }
    record |= {"refused": 0, "compared": 0}
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="understudy-tamper-") as folder:
            with opened(host) as session:
                snapshots = _fill(session, folder)
                names = _names(session)
            record["refused"] = sum(
                _refused(host, method, name) for name in names for method in ("DELETE", "POST")
            )
            if not _restores(host, snapshots, folder, "after"):
                raise UnderstudyError(f"{host.label}: what was backed up does not come back after the test")
            record["compared"] = _FILES * len(snapshots)
        record["ok"] = True
    except (UnderstudyError, OSError) as error:
        record["error"] = str(error)
    return record | {"seconds": round(time.monotonic() - started, 3), "at": round(time.time(), 3)}


def _names(session: Session) -> list[str]:
    """One object of each kind, as REST addresses it."""
    found = ["config"]
    for listed, kind in (("packs", "data"), ("index", "index"), ("snapshots", "snapshots"), ("keys", "keys")):
        lines = [one.strip() for one in session.run(["list", listed], 120).lines]
        found += [f"{kind}/{line}" for line in lines if re.fullmatch(r"[0-9a-f]{64}", line)][:1]
    return found


def _refused(host: AdminRepository, method: str, name: str) -> bool:
    base, user = host.url.removeprefix("rest:").rstrip("/"), host.rest or ""
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        f"{base}/{name}", method=method, data=b"ruined" if method == "POST" else None
    )
    if user:
        request.add_header("Authorization", "Basic " + b64encode(user.strip().encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=60):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        if error.code in (401, 404):
            raise UnderstudyError(
                f"{host.label}: the test could not ask: {method} {name} gave {error.code}"
            ) from None
        return True
    raise UnderstudyError(
        f"{host.label}: the host's key may {'delete' if method == 'DELETE' else 'overwrite'} {name.split('/')[0]}:"
        " the server is not append-only for it"
    )
