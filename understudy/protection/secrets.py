"""Which secrets a policy needs: the host's own in ``secrets/backup.yaml``, the owner's in ``secrets/backup-admin.yaml``.

The host's storage key must not be able to delete versions; the admin key stays on the control machine
(design.md, decision 8).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..spec import SecretSpec
from . import jobs
from .policy import Policy, RepositorySettings

HOST = "backup"
ADMIN = "backup-admin"
FOLDER = "/etc/understudy/secrets/backup"


def prefix(name: str) -> str:
    """The repository's name as secrets begin with it: ``my-nas`` → ``MY_NAS``."""
    return name.upper().replace("-", "_")


def _outside(why: str, optional: bool = False) -> SecretSpec:
    return SecretSpec(generate="none", optional=optional, why=why)


def _store_specs(name: str, repository: RepositorySettings, who: str) -> dict[str, SecretSpec]:
    start = prefix(name)
    if repository.scheme == "s3":
        return {
            f"{start}_KEY_ID": _outside(f"the key id of {who} at the store of repository {name}"),
            f"{start}_KEY": _outside(f"the key of {who} at the store of repository {name}"),
        }
    if repository.scheme == "rest":
        return {
            f"{start}_REST": _outside(f"user:password of {who} at the rest-server of {name}", optional=True)
        }
    if repository.scheme in ("sftp", "rclone"):
        return {
            f"{start}_SSH_KEY": _outside(f"the private SSH key of {who} for repository {name}"),
            f"{start}_KNOWN_HOSTS": _outside(f"the known_hosts line of the server of repository {name}"),
        }
    return {}


def host_specs(policy: Policy) -> dict[str, SecretSpec]:
    """Secret name to its declaration, for the host."""
    specs: dict[str, SecretSpec] = {}
    for name, repository in policy.repositories.items():
        specs[f"{prefix(name)}_PASSWORD"] = SecretSpec(generate="alnum32")
        specs.update(_store_specs(name, repository, "this host"))
    for tier in ("critical", "important", "optional"):
        specs[f"PING_{tier.upper()}"] = _outside(f"a dead-man URL, called after each good {tier} tick", True)
    specs["ALARM_URL"] = _outside("where failures are posted: ntfy, Mattermost, Slack, or any webhook", True)
    specs.update(jobs.host_specs(policy))
    return specs


def admin_specs(policy: Policy) -> dict[str, SecretSpec]:
    """Secret name to its declaration, for the control machine alone."""
    specs: dict[str, SecretSpec] = {}
    for name, repository in policy.repositories.items():
        specs[f"{prefix(name)}_PASSWORD"] = SecretSpec(generate="alnum32")
        store = _store_specs(name, repository, "the owner, who may delete,")
        specs.update({key: spec.model_copy(update={"optional": True}) for key, spec in store.items()})
    return specs


def aws_file(key_id: str, key: str) -> str:
    """The form that AWS_SHARED_CREDENTIALS_FILE names."""
    return f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {key}\n"


def credential_files(policy: Policy, values: Mapping[str, str]) -> dict[str, str]:
    """File name below :data:`FOLDER` to its content, for what has a value."""
    files: dict[str, str] = {}
    for name, repository in policy.repositories.items():
        start = prefix(name)
        files[f"{name}-password"] = values.get(f"{start}_PASSWORD", "")
        if repository.scheme == "s3" and f"{start}_KEY" in values:
            files[f"{name}-aws"] = aws_file(values[f"{start}_KEY_ID"], values[f"{start}_KEY"])
        files[f"{name}-rest"] = values.get(f"{start}_REST", "")
        files[f"{name}-ssh-key"] = _line_end(values.get(f"{start}_SSH_KEY", ""))
        files[f"{name}-known-hosts"] = _line_end(values.get(f"{start}_KNOWN_HOSTS", ""))
    for tier in ("critical", "important", "optional"):
        files[f"ping-{tier}"] = values.get(f"PING_{tier.upper()}", "")
    files["alarm-url"] = values.get("ALARM_URL", "")
    files.update(jobs.credential_files(policy, values))
    return {name: content for name, content in files.items() if content}


def _line_end(text: str) -> str:
    """ssh refuses a key file whose last line does not end."""
    return text if not text or text.endswith("\n") else f"{text}\n"


def credentials_of(name: str, repository: RepositorySettings, files: Mapping[str, str]) -> dict[str, str]:
    """Purpose to file name, as agent/data/plan.py wants it."""
    wanted = {
        "password": f"{name}-password",
        "aws": f"{name}-aws",
        "rest": f"{name}-rest",
        "ssh_key": f"{name}-ssh-key",
        "known_hosts": f"{name}-known-hosts",
    }
    return {purpose: file for purpose, file in wanted.items() if file in files}
