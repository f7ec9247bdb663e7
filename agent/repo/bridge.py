"""An S3 repository reached through rclone: restic knows one S3 login per call, and a copy between two needs two."""

from __future__ import annotations

import configparser
import dataclasses
import os
import re
import shlex

from ..errors import AgentError, because
from .restic import Repo

__all__ = ["config", "over_rclone"]

_LOGIN = "AWS_SHARED_CREDENTIALS_FILE"
_REMOTE = "source"
_ADDRESS = re.compile(r"^s3:(?:(https?)://)?([^/]+)/(.+)$")


def config(where: str, login: str) -> tuple[str, str]:
    """(rclone's configuration, the repository's address) for an ``s3:`` address and an AWS credentials text."""
    found = _ADDRESS.match(where)
    keys = configparser.ConfigParser(interpolation=None)
    keys.read_string(login)
    if found is None or not keys.has_section("default"):
        raise ValueError("not an S3 address with the login of one account")
    scheme, host, path = found[1] or "https", found[2], found[3]
    lines = [
        f"[{_REMOTE}]",
        "type = s3",
        "provider = Other",
        f"endpoint = {scheme}://{host}",
        f"access_key_id = {keys['default']['aws_access_key_id']}",
        f"secret_access_key = {keys['default']['aws_secret_access_key']}",
        "no_check_bucket = true",
    ]
    return "\n".join(lines) + "\n", f"rclone:{_REMOTE}:{path}"


def over_rclone(repo: Repo) -> Repo:
    """The same repository for reading, by way of rclone. Raises AgentError when it is no S3 repository."""
    place, password = repo.source
    try:
        with open(repo.env[_LOGIN], encoding="utf-8") as stream:
            text, address = config(repo.where, stream.read())
        settings, bridge = f"{place}.rclone.conf", f"{place}.bridge"
        _private(settings, text)
        _private(bridge, address)
    except (KeyError, ValueError) as error:
        raise AgentError(f"{repo.title} cannot be read beside another store's login: {error}") from None
    except OSError as error:
        raise AgentError(f"{repo.title}: {error.filename}: {because(error)}", "io") from error
    program = f"rclone.program=rclone --config {shlex.quote(settings)}"
    env = {name: value for name, value in repo.env.items() if name != _LOGIN}
    return dataclasses.replace(
        repo, options=(*repo.options, "-o", program), env=env, source=(bridge, password)
    )


def _private(path: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
