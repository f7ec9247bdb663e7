"""What runs by the clock: crontabs, timers, and the copying tools in the scripts that they start.

A script's text stays on the host; what leaves it is which tool works on which paths, and where to.
"""

from __future__ import annotations

import configparser
import glob
import os
import re
import shlex
from collections.abc import Iterator
from typing import Any

from ..root import Root
from .units import _FOLDERS

__all__ = ["read", "remotes", "uses"]

TOOLS = (
    "restic", "borg", "borgmatic", "rclone", "rsync", "kopia", "duplicity", "duplicati-cli", "autorestic", "resticprofile",
    "rustic", "proxmox-backup-client", "tar", "cp", "scp", "zip", "pg_dump", "pg_dumpall", "mysqldump", "mariadb-dump",
    "sqlite3", "zfs", "btrfs", "syncoid", "tarsnap", "aws", "b2", "gsutil", "mc", "s3cmd",
)  # fmt: skip
_TOOL = re.compile(r"(?<![\w./-])(?:/[\w./-]+/)?(" + "|".join(map(re.escape, TOOLS)) + r")(?=\s|$)")
_PATH = re.compile(r"(?<![\w:@=/.-])(/(?:[\w.@%+~-]+/?)+)|(?<==)(/(?:[\w.@%+~-]+/?)+)")
_REMOTE = re.compile(
    r"(?<![\w/.-])((?:s3|b2|sftp|rest|rclone|azure|gs|swift|ssh)://?[^\s\"']+|(?:s3|b2|sftp|rest|rclone|azure|gs|swift):[^\s\"']+"
    r"|[\w.-]+@[\w.-]+:[^\s\"']*|[A-Za-z][\w.-]*:(?!/)[\w./-]*)"
)
_ASSIGNED = re.compile(
    r"^\s*(?:export\s+|local\s+|readonly\s+)?([A-Za-z_]\w*)=(\"[^\"`$]*(?:\$\{?\w+\}?[^\"`$]*)*\"|'[^']*'|[^\s;`(]*)",
    re.M,
)
_STOPPED = re.compile(r"\b(?:docker|podman)(?:\s+container)?\s+(?:stop|pause)\s+(.*)")
_DISTRIBUTION = {
    "0anacron",
    "apt-compat",
    "dpkg",
    "e2scrub_all",
    "logrotate",
    "man-db",
    "mlocate",
    "plocate",
    "popularity-contest",
}
_LARGEST, _DEEPEST = 256 << 10, 3


def read(root: Root, accounts: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """Jobs: {"kind", "owner", "when", "starts", "missing", "log", "file", "stops", "uses": [...]}.

    A use is {"tool", "paths", "names" (of containers), "words" (of a dump: databases among them), "to" (places elsewhere)}.
    """
    homes = {account["name"]: account["home"] for account in accounts}
    found = []
    for job in [*_crontabs(root), *_timers(root)]:
        command = job.pop("command")
        home = homes.get(job["owner"], "/root" if job["owner"] == "root" else f"/home/{job['owner']}")
        texts, missing, started = _texts(root, command, home)
        log = re.search(r"(?<!2)(?<!&)>>?\s*(/\S+)", command)
        spoken = [use for text in texts for use in uses(text, names, home)]
        halted = [word for text in texts for line in _STOPPED.findall(text) for word in line.split()]
        told = {"starts": started, "missing": missing, "log": _log(root, log), "uses": spoken}
        found.append({**job, **told, "stops": [name for name in names if name in halted]})
    return found


def _log(root: Root, found: re.Match[str] | None) -> dict[str, Any] | None:
    """Where a job's shell opens its log: who may write there decides whether the job starts at all (I-33)."""
    if not found or found[1] == "/dev/null":
        return None
    path = root.at(found[1])
    there = path if os.path.exists(path) else os.path.dirname(path)
    try:
        info = os.stat(there)
    except OSError:
        return {"path": found[1], "uid": -1, "mode": "0000"}
    return {"path": found[1], "uid": info.st_uid, "mode": f"{info.st_mode & 0o7777:04o}"}


def _crontabs(root: Root) -> Iterator[dict[str, Any]]:
    for path in sorted(
        glob.glob(root.at("/var/spool/cron/crontabs/*")) + glob.glob(root.at("/var/spool/cron/root"))
    ):
        yield from _lines(path, os.path.basename(path))
    for path in [
        root.at("/etc/crontab"),
        root.at("/etc/anacrontab"),
        *sorted(glob.glob(root.at("/etc/cron.d/*"))),
    ]:
        yield from _lines(path, None)
    for when in ("hourly", "daily", "weekly", "monthly"):
        for path in sorted(glob.glob(root.at(f"/etc/cron.{when}/*"))):
            distribution = os.path.basename(path) in _DISTRIBUTION
            if os.access(path, os.X_OK) and not os.path.isdir(path) and not distribution:
                yield {"kind": "cron", "owner": "root", "when": when, "file": path, "command": path}


def _lines(path: str, owner: str | None) -> Iterator[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = stream.readlines()
    except (FileNotFoundError, IsADirectoryError):
        return
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#") or re.match(r"[A-Za-z_]\w*\s*=", text):
            continue
        when = 1 if text.startswith("@") else 5
        parts = text.split(None, when + (0 if owner else 1))
        if len(parts) == when + (1 if owner else 2):
            who = owner or parts[when]
            yield {
                "kind": "cron",
                "owner": who,
                "when": " ".join(parts[:when]),
                "file": path,
                "command": parts[-1],
            }


def _timers(root: Root) -> Iterator[dict[str, Any]]:
    for folder in _FOLDERS:
        for path in sorted(glob.glob(root.at(f"{folder}/*.timer"))):
            name = os.path.basename(path)
            if os.path.islink(path) or name.startswith("understudy-"):
                continue
            timer = _keys(path)
            service = timer.get("Unit", name.replace(".timer", ".service"))
            unit = _keys(root.at(f"{folder}/{service}"))
            when = timer.get("OnCalendar") or timer.get("OnUnitActiveSec") or ""
            owner = unit.get("User", "root")
            yield {
                "kind": "timer",
                "owner": owner,
                "when": when,
                "file": path,
                "command": unit.get("ExecStart", ""),
            }


def _keys(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            pairs = (line.partition("=") for line in stream if "=" in line)
            return {key.strip(): value.strip() for key, _, value in pairs}
    except OSError:
        return {}


def _texts(root: Root, command: str, home: str) -> tuple[list[str], list[str], list[str]]:
    """The command and every script it starts; programs that are not there; the scripts by path."""
    texts, missing, started, waiting = [command], list[str](), list[str](), [(command, 0)]
    while waiting:
        text, depth = waiting.pop(0)
        for word in _programs(text if depth else text.split(">")[0], home):
            path = root.at(word)
            if word in started or word.startswith(("/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/", "/dev/")):
                continue
            if depth == 0 and not os.path.lexists(path) and word == _first(command, home):
                missing.append(word)
            content = _script(path)
            if content and depth < _DEEPEST:
                started.append(word)
                texts.append(content)
                waiting.append((content, depth + 1))
    return texts, missing, started


def _first(command: str, home: str) -> str:
    """The program that a job starts, behind `bash`, `nice` and the like."""
    words = [word for word in _split(command) if not word.startswith("-") and "=" not in word]
    wrappers = (
        "bash",
        "sh",
        "nice",
        "ionice",
        "flock",
        "timeout",
        "sudo",
        "env",
        "python3",
        "/bin/bash",
        "/bin/sh",
        "/usr/bin/python3",
    )
    rest = [word for word in words if word not in wrappers]
    return os.path.expanduser(rest[0].replace("~", home, 1)) if rest else ""


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=False)
    except ValueError:
        return text.split()


def _programs(text: str, home: str) -> list[str]:
    plain = re.sub(r"\$\{?HOME\}?|(?<![\w/])~(?=/)", home, text)
    quoted = [word for word in _split(plain) if word.startswith("/")] if "\n" not in text else []
    return list(dict.fromkeys([*quoted, *(first or second for first, second in _PATH.findall(plain))]))


def _script(path: str) -> str:
    """The text of a script; "" for anything that is not one."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _LARGEST:
            return ""
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError:
        return ""
    return (
        content.decode(errors="replace") if content.startswith(b"#!") or path.endswith((".sh", ".py")) else ""
    )


def uses(text: str, names: list[str], home: str) -> list[dict[str, Any]]:
    """Every line that calls a copying tool: the tool, the paths and containers on it, and targets elsewhere."""
    values = {"HOME": home}
    for name, value in _ASSIGNED.findall(text):
        values[name] = _expand(value.strip("\"'"), values)
    joined = re.sub(r"\\\n\s*", " ", text)
    found = []
    for line in joined.splitlines():
        if line.lstrip().startswith("#"):
            continue
        full = re.sub(r"(?<![\w/])~(?=/)", home, _expand(line, values)).replace('"', "").replace("'", "")
        tools = _TOOL.findall(full)
        if tools:
            paths = [first or second for first, second in _PATH.findall(full)]
            base = re.search(r"(?:^|\s)-C\s+(/\S+)\s+([\w.-]+)", full)
            paths += [f"{base[1].rstrip('/')}/{base[2]}"] if base else []
            to = [target for target in _REMOTE.findall(full) if tools[-1] not in ("tar", "cp", "zip")]
            to += [
                values[name]
                for name in ("RESTIC_REPOSITORY", "BORG_REPO")
                if name in values and tools[0] in name.lower()
            ]
            spoken = [name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", full)]
            tool = next((t for t in tools if t.endswith(("dump", "dumpall"))), tools[0])
            words = _plain_words(full) if "dump" in tool else []
            found.append(
                {"tool": tool, "paths": list(dict.fromkeys(paths)), "names": spoken, "words": words, "to": to}
            )
    return found


def _plain_words(line: str) -> list[str]:
    """Words of a dump's command that can be the name of a database; options and assignments may hold a password."""
    return [word for word in line.split(">")[0].split() if re.fullmatch(r"[A-Za-z_][\w-]{0,62}", word)]


def _expand(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\{?([A-Za-z_]\w*)\}?", lambda match: values.get(match[1], match[0]), text)


def remotes(root: Root, accounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """rclone remotes (name and kind) and configurations of backup tools that lie about; no secret of theirs."""
    found: list[dict[str, Any]] = []
    for account in accounts:
        path = f"{account['home']}/.config/rclone/rclone.conf"
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        if os.path.exists(root.at(path)):
            try:
                parser.read(root.at(path), encoding="utf-8")
                remotes = [{"name": name, "type": parser[name].get("type", "")} for name in parser.sections()]
            except configparser.Error:
                remotes = []  # an encrypted configuration is one line of rclone's own
            found.append({"tool": "rclone", "file": path, "remotes": remotes})
        for name in (
            "borgmatic/config.yaml",
            "borgmatic.d",
            "restic",
            "resticprofile",
            "autorestic.yml",
            "kopia",
        ):
            there = f"{account['home']}/.config/{name}"
            if os.path.exists(root.at(there)):
                found.append({"tool": name.split("/")[0].split(".")[0], "file": there, "remotes": []})
    for path in ("/etc/borgmatic/config.yaml", "/etc/borgmatic.d", "/etc/restic", "/etc/resticprofile"):
        if os.path.exists(root.at(path)):
            found.append({"tool": path.split("/")[2].split(".")[0], "file": path, "remotes": []})
    return found
