"""The recovery kit: one page that says how to come back when everything but this page and the key is gone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import __version__, owned
from .errors import BadInput, Refused
from .jinja import render
from .owned import Owned
from .secrets import key_file, recipients_of_key_file

__all__ = ["page", "write_private"]


def page(inventory: str, with_secrets: bool) -> str:
    """The page as Markdown. Without ``with_secrets`` it holds none. Raises BadInput where nothing is described."""
    hosts = owned.hosts(inventory)
    if not hosts:
        raise BadInput(f"{inventory} has no host: there is nothing to recover")
    repositories = [entry for one in hosts for entry in _repositories(one, with_secrets)]
    first = hosts[0].settings
    return render(
        "kit.md.j2",
        domain=first.domain,
        day=time.strftime("%Y-%m-%d", time.gmtime()),
        version=__version__,
        secrets=with_secrets,
        recipients=recipients_of_key_file(key_file()) or ["none yet: understudy secrets init"],
        key_file=key_file(),
        secrets_dir=first.secrets_dir,
        remote=_remote(),
        companies=_companies(repositories, first.edge),
        hosts=[_host(one) for one in hosts],
        repositories=repositories,
    )


def _host(one: Owned) -> dict[str, Any]:
    address = one.data.get("ssh_hostname") or one.name
    return {
        "name": one.name,
        "role": one.settings.role,
        "login": f"ssh {one.settings.ssh_user}@{address}",
        "parts": one.settings.parts.switched_on(),
    }


def _repositories(one: Owned, with_secrets: bool) -> list[dict[str, Any]]:
    policy = one.settings.backup.repositories
    if not one.settings.parts.backup or not policy:
        return []
    values = one.keys[0] if with_secrets else {}
    return [
        {
            "name": name,
            "host": one.name,
            "url": repository.url,
            "tamper": repository.tamper,
            **_opened_with(name, values, one.settings.secrets_dir, with_secrets),
        }
        for name, repository in policy.items()
    ]


def _opened_with(name: str, values: Mapping[str, str], folder: Path, with_secrets: bool) -> dict[str, Any]:
    prefix = f"{name.upper().replace('-', '_')}_"
    password = f"{prefix}PASSWORD"
    if not with_secrets:
        return {"password": f"`{password}` in `{folder}/backup.yaml`", "credentials": []}
    others = {key: value for key, value in values.items() if key.startswith(prefix) and key != password}
    lines = [f"{key}: `{value}`" for key, value in sorted(others.items()) if "\n" not in value]
    lines += [
        f"{key}: in `{folder}/backup.yaml` (several lines)" for key, v in sorted(others.items()) if "\n" in v
    ]
    return {"password": f"`{values.get(password, '')}`", "credentials": lines}


def _companies(repositories: list[dict[str, Any]], edge: str) -> list[str]:
    named = {urlsplit(str(entry["url"]).partition(":")[2]).hostname or "" for entry in repositories}
    return sorted({*(name for name in named if name), *(["Cloudflare"] if edge == "cloudflare" else [])})


def _remote() -> str:
    done = subprocess.run(
        ["git", "remote", "get-url", "origin"], capture_output=True, text=True, check=False, timeout=10
    )
    # An address may carry a token before the @.
    text = done.stdout.strip()
    return text.split("://", 1)[0] + "://" + text.rsplit("@", 1)[1] if "://" in text and "@" in text else text


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner reads. Raises Refused when there is one already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Refused(f"{path} exists: remove it first, or name another file; nothing was written") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
