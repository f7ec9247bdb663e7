"""`understudy init`: a project of one's own, which depends on a version of the tool."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from . import __version__
from .errors import BadInput, Refused
from .jinja import render
from .secrets import init as init_secrets

# Path in the project to its template below templates/project.
FILES = {
    "deploy.py": "deploy.py.j2",
    "inventory/prod.py": "prod.py.j2",
    "group_data/all.py": "all.py.j2",
    "group_data/primary.py": "primary.py.j2",
    "group_data/replica.py": "replica.py.j2",
    "services/README.md": "services.md.j2",
    "secrets/README.md": "secrets.md.j2",
    "README.md": "readme.md.j2",
    "Makefile": "makefile.j2",
    "requirements.txt": "requirements.txt.j2",
    "renovate.json": "renovate.json.j2",
    ".gitignore": "gitignore.j2",
}
# Target of make, the verb's words, what `make help` says.
VERBS = (
    ("audit", "audit", 'What would be lost if a machine died now; reads only (ARGS="USER@HOST")'),
    ("import", "import", 'Take in a host that already runs (ARGS="USER@HOST")'),
    ("plan", "plan", "What a converge would change; reads only"),
    ("converge", "converge", "Bring the hosts to what the description says"),
    ("backup", "backup", 'Back up now (ARGS="[SERVICE...]")'),
    ("restore", "restore", 'Bring data back (ARGS="SERVICE --dry-run")'),
    ("drill", "drill", "Restore into a scratch copy and prove that it serves"),
    ("switchover", "switchover", 'Move a group to another host (ARGS="GROUP --to HOST")'),
    ("status", "status", "How well everything is kept; fails when anything is overdue"),
    ("update", "update", 'Bring one service to its declared version (ARGS="SERVICE")'),
    ("retire", "retire", 'Take a service away, keep its data (ARGS="SERVICE")'),
    ("snapshots", "snapshots", "What the repositories hold"),
    ("repo-check", "repo check", "Freshness and upkeep, judged from the repositories alone"),
    ("repo-prune", "repo prune", "Forget what no rule keeps, with your key"),
    ("footprint", "host footprint", 'Everything of ours on a host (ARGS="HOST")'),
    ("leave", "host leave", 'Take everything of ours off a host (ARGS="HOST")'),
    ("kit", "kit", "The page you need when everything else is gone"),
)
_LOGIN = re.compile(r"^(?:(?P<user>[a-z_][a-z0-9_-]*)@)?(?P<address>[A-Za-z0-9.:-]+)$")
_DOMAIN = re.compile(r"^[a-z0-9-]+(\.[a-z0-9-]+)+$")


@dataclass(frozen=True)
class Start:
    """What the first host is called and how it is reached."""

    user: str
    address: str
    domain: str
    timezone: str

    @classmethod
    def of(cls, login: str, domain: str) -> Start:
        """From ``USER@HOST`` as it is typed. Raises BadInput."""
        match = _LOGIN.match(login)
        if not match:
            raise BadInput(f"--host {login!r} is not like root@server or admin@192.168.1.5")
        if not _DOMAIN.match(domain):
            raise BadInput(f"--domain {domain!r} is not like example.org")
        return cls(match["user"] or "root", match["address"], domain, local_timezone())

    @property
    def host(self) -> str:
        """The host's name in the inventory."""
        bare = self.address.split(".")[0]
        return self.address.replace(":", "-") if bare.isdigit() or ":" in self.address else bare


def local_timezone() -> str:
    """This machine's time zone by name, UTC where it has none."""
    try:
        return os.readlink("/etc/localtime").split("/zoneinfo/", 1)[1]
    except (OSError, IndexError):
        return "Etc/UTC"


def known(words: str) -> bool:
    """Whether this version of the tool has a verb."""
    from .cli import app  # it imports us

    command: Any = typer.main.get_command(app)
    for word in words.split():
        command = getattr(command, "commands", {}).get(word)
    return command is not None


def write(folder: Path, start: Start) -> list[str]:
    """Write the project; returns what was written, and what the owner has to know about the key of its secrets.

    Raises Refused when the folder holds anything but a git repository.
    """
    present = sorted(p.name for p in folder.iterdir() if p.name != ".git") if folder.is_dir() else []
    if present:
        raise Refused(f"{folder} is not empty ({present[0]}): give a folder of its own; nothing was written")
    values = {
        "name": folder.resolve().name,
        "host": start.host,
        "address": start.address,
        "user": start.user,
        "domain": start.domain,
        "timezone": start.timezone,
        "version": __version__,
        "verbs": [verb for verb in VERBS if known(verb[1])],
    }
    for path, template in FILES.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(render(f"project/{template}", **values), encoding="utf-8")
    return [*FILES, *init_secrets(folder / "secrets").sentences()]
