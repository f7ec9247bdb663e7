"""A host's repositories as the control machine opens them: with the owner's keys where there are any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import BadInput
from ..repository.restic import AdminRepository
from ..settings import HostSettings
from .plan import options
from .policy import RepositorySettings
from .secrets import aws_file, prefix

# {folder} is where repository/restic.py puts the keys of one session.
SSH_FLAGS = (
    "-F none -o BatchMode=yes -i {folder}/ssh_key -o IdentitiesOnly=yes "
    "-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes"
)


def repositories(
    settings: HostSettings,
    groups: Iterable[str],
    host: Mapping[str, str],
    admin: Mapping[str, str],
    only: str = "",
) -> list[AdminRepository]:
    """One entry a repository and move group; local paths are the host's and left out.

    ``host`` and ``admin`` are the secrets of the two files. Raises BadInput for an unknown name in ``only``.
    """
    known = settings.backup.repositories
    if only and only not in known:
        raise BadInput(f"{settings.name} has no repository {only!r}; it has {', '.join(known) or 'none'}")
    wanted = {name: r for name, r in known.items() if only in ("", name) and r.scheme != "local"}
    values = {**host, **{key: value for key, value in admin.items() if value}}
    wide = list(groups)
    return [
        with_keys(name, repository, group, values, bool(admin))
        for name, repository in wanted.items()
        for group in wide
    ]


def with_keys(
    name: str, repository: RepositorySettings, group: str, values: Mapping[str, str], admin: bool
) -> AdminRepository:
    """One group's repository with these keys. ``admin``: by the owner's own address, where it has one."""
    start = prefix(name)
    key_id, key = values.get(f"{start}_KEY_ID"), values.get(f"{start}_KEY")
    url = repository.admin_url if admin and repository.admin_url else repository.url
    return AdminRepository(
        name,
        group,
        f"{url}/{group}",
        values.get(f"{start}_PASSWORD", ""),
        aws=aws_file(key_id, key) if key_id and key else None,
        ssh_key=values.get(f"{start}_SSH_KEY"),
        known_hosts=values.get(f"{start}_KNOWN_HOSTS"),
        rest=values.get(f"{start}_REST"),
        options=tuple(options(repository, SSH_FLAGS)),
        cache_dir=str(Path("~/.cache/understudy/restic").expanduser()),
    )
