"""From a repository of the plan to one that restic can be asked about: address, credentials, options, disk.

No secret is in an argument list or, where restic allows it, in an environment: they stand in files of mode 0600
below /run/understudy and in the host's credential files.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import os
import re
import shlex
import urllib.parse
from collections.abc import Iterator
from typing import IO

from ..data import credentials
from ..data.plan import Disk, Plan, Repository
from ..errors import AgentError, because
from ..root import RUN, Root
from . import restic
from .restic import Repo

__all__ = ["CACHE_DIR", "Repo", "address", "attached", "environment", "get", "open", "options", "paired"]

CACHE_DIR = "/var/cache/understudy/restic"
FILES = f"{RUN}/repositories"
MEMO = f"{RUN}/restic-version"
_PURPOSES = ("password", "aws", "rest", "ssh_key", "known_hosts", "environment", "cacert")
_SSH = ("StrictHostKeyChecking=yes", "BatchMode=yes", "ServerAliveInterval=60", "ServerAliveCountMax=4")


def get(plan: Plan, name: str) -> Repository:
    """The plan's repository. Raises AgentError."""
    try:
        return plan.repositories[name]
    except KeyError:
        known = ", ".join(plan.repositories) or "none"
        raise AgentError(
            f"there is no repository {name!r} in the plan; known: {known}", "bad-request"
        ) from None


def open(root: Root, plan: Plan, name: str, group: str) -> Repo:
    """The repository of a move group, ready for restic.run. A disk is mounted if it is plugged in, and stays so.

    Raises AgentError: unknown name, credential missing, disk missing or wrong, restic missing or too old.
    """
    wanted = get(plan, name)
    label = _ready(root, wanted.disk, name)[0] if wanted.disk else ""
    files = {purpose: credentials.path(root, named) for purpose, named in wanted.credentials.items()}
    unknown = sorted(set(files) - set(_PURPOSES))
    if unknown:
        raise AgentError(
            f"repository {name}: credential purpose {unknown[0]!r} is unknown: {', '.join(_PURPOSES)}"
        )
    if "password" not in files:
        raise AgentError(f"repository {name} has no password: name it under credentials")
    login = _read(files["rest"]) if "rest" in files else ""
    url = address(root, wanted.of(group), login)
    more = _variables(files["environment"]) if "environment" in files else {}
    place = _kept(root, f"{name}/{group}", url)
    return Repo(
        name,
        group,
        restic.program(str(plan.settings.get("restic") or ""), memo=root.at(MEMO)),
        tuple(options(wanted, files)),
        environment(root, place, files) | more,
        wanted.of(group),
        f"{name}@{label}" if wanted.disk and len(wanted.disk.labels) > 1 else name,
        tuple(s for s in (login, *login.split(":", 1)[1:], *more.values(), *_userinfo(url)) if len(s) > 3),
        (place, files["password"]),
        float(plan.settings.get("store_patience") or 120.0),
    )


@contextlib.contextmanager
def attached(root: Root, plan: Plan, names: list[str]) -> Iterator[dict[str, AgentError]]:
    """Have the disks of these repositories mounted while inside; those that were not before are unmounted after.

    Gives the repositories whose disk is missing or wrong, each with its error.
    """
    ours: list[str] = []
    missing: dict[str, AgentError] = {}
    try:
        for name in names:
            disk = get(plan, name).disk
            try:
                if disk and _ready(root, disk, name)[1]:
                    ours.append(disk.mount)
            except AgentError as error:
                missing[name] = error
        yield missing
    finally:
        for mount in ours:
            _eject(root, mount)


# Most ticks meet no disk and no copy, and what handles those takes a while to load.
def _ready(root: Root, disk: Disk, name: str) -> tuple[str, bool]:
    from . import disks

    return disks.ready(root, disk, name)


def _eject(root: Root, point: str) -> None:
    from . import disks

    disks.eject(root, point)


def paired(target: Repo, source: Repo) -> tuple[Repo, Repo]:
    """(the target with what the source needs besides, the source as it is read), for calls with both.

    restic has one set of options and one S3 login per call. Raises AgentError where the two need different ones.
    """
    own = ("RESTIC_REPOSITORY_FILE", "RESTIC_PASSWORD_FILE")
    login = "AWS_SHARED_CREDENTIALS_FILE"
    if login in source.env and not _same_file(source.env[login], target.env.get(login)):
        from . import bridge

        source = bridge.over_rclone(source)
    env = {k: v for k, v in source.env.items() if k not in own}
    for name, value in env.items():
        if name != login and target.env.get(name, value) != value:
            raise AgentError(
                f"{source.name} and {target.name} need different values of {name}, and restic knows one per call:"
                " reach one of them another way (rclone, sftp)"
            )
    ours, theirs = _keyed(target.options), _keyed(source.options)
    clash = next((key for key, value in theirs.items() if ours.get(key, value) != value), None)
    if clash:
        raise AgentError(
            f"{source.name} and {target.name} have different {clash}, and restic knows one per call"
        )
    more = tuple(word for key, value in theirs.items() if key not in ours for word in (key.split()[0], value))
    secrets = (*target.secrets, *source.secrets)
    both = dataclasses.replace(
        target, options=(*target.options, *more), env={**env, **target.env}, secrets=secrets
    )
    return both, source


def _same_file(one: str, other: str | None) -> bool:
    """Whether both hold the same login, or the second has none of its own."""
    if other is None:
        return True
    with builtins.open(one, "rb") as first, builtins.open(other, "rb") as second:
        return first.read() == second.read()


def _keyed(words: tuple[str, ...]) -> dict[str, str]:
    """Options by what must be the same for both; limits are each one's own and may differ."""
    pairs = [(words[i], words[i + 1]) for i in range(0, len(words), 2) if not words[i].startswith("--limit")]
    return {f"{flag} {value.partition('=')[0]}" if flag == "-o" else flag: value for flag, value in pairs}


def address(root: Root, url: str, login: str = "") -> str:
    """restic's address. A path on this host goes through the root; ``login`` (user:password) goes into a rest: URL."""
    if url.startswith("/"):
        return root.at(url)
    if url.startswith("local:/"):
        return root.at(url.removeprefix("local:"))
    if login:
        parts = urllib.parse.urlsplit(url.removeprefix("rest:"))
        user, _, password = login.partition(":")
        quoted = ":".join(urllib.parse.quote(word, safe="") for word in (user, password))
        return "rest:" + parts._replace(netloc=f"{quoted}@{parts.netloc.rpartition('@')[2]}").geturl()
    return url


def environment(root: Root, repository_file: str, files: dict[str, str]) -> dict[str, str]:
    """What restic finds in its environment: names of files, and nothing secret."""
    found = {
        "RESTIC_REPOSITORY_FILE": repository_file,
        "RESTIC_PASSWORD_FILE": files["password"],
        "RESTIC_CACHE_DIR": root.at(CACHE_DIR),
        "RESTIC_PROGRESS_FPS": "0.0166",
        "TZ": "UTC",
    }
    return found | ({"AWS_SHARED_CREDENTIALS_FILE": files["aws"]} if "aws" in files else {})


def options(wanted: Repository, files: dict[str, str]) -> list[str]:
    """The words between ``restic`` and its command. The owner's own ``sftp.args`` or ``sftp.command`` win over ours."""
    words = ["--cacert", files["cacert"]] if "cacert" in files else []
    for option in _with_ssh(wanted, files):
        words += ["-o", option]
    if wanted.limit_upload:
        words += ["--limit-upload", str(wanted.limit_upload)]
    if wanted.limit_download:
        words += ["--limit-download", str(wanted.limit_download)]
    return words


def _with_ssh(wanted: Repository, files: dict[str, str]) -> list[str]:
    given = list(wanted.options)
    flags = shlex.join(_ssh_flags(files))
    if wanted.url.startswith("sftp:") and not any(
        o.startswith(("sftp.args=", "sftp.command=")) for o in given
    ):
        return [*given, f"sftp.args={flags}"]
    if not wanted.url.startswith("rclone:"):
        return given
    # rclone at the far end of an ssh, as rsync.net offers it append-only: the plan says "ssh USER@HOST rclone".
    return [re.sub(r"^(rclone\.program=ssh)(?= )", lambda m: f"{m[1]} {flags}", option) for option in given]


def _ssh_flags(files: dict[str, str]) -> list[str]:
    flags = ["-i", files["ssh_key"], "-o", "IdentitiesOnly=yes"] if "ssh_key" in files else []
    if "known_hosts" in files:
        flags += ["-o", f"UserKnownHostsFile={files['known_hosts']}"]
    for option in _SSH:
        flags += ["-o", option]
    return flags


def _read(path: str) -> str:
    try:
        with _opened(path) as stream:
            return stream.read().strip()
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {because(error)}", "io") from error


def _opened(path: str) -> IO[str]:
    # The builtin of that name is hidden by ours.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), encoding="utf-8")


def _variables(path: str) -> dict[str, str]:
    """A file of NAME=value lines, for stores that restic knows only through the environment."""
    lines = (line.strip() for line in _read(path).splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#") and "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _userinfo(url: str) -> list[str]:
    """The quoted login as it stands in an address, if there is one."""
    match = re.match(r"rest:https?://([^/@]*)@", url)
    return [match[1], *match[1].split(":", 1)[1:]] if match else []


def _kept(root: Root, title: str, url: str) -> str:
    """The file that holds the address (it may hold a login). Real path."""
    folder = root.at(FILES)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    place = f"{folder}/{urllib.parse.quote(title, safe='')}"
    temp = f"{place}.{os.getpid()}"
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, url.encode())
    finally:
        os.close(descriptor)
    os.replace(temp, place)
    return place
