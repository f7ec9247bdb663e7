"""What the practice world has of its own beside hosts: secrets, generated on first use."""

from __future__ import annotations

import base64
import json
import os
import secrets
import uuid
from collections.abc import Mapping
from typing import Any

from lab.cloudflare.place import AUTHORITY_ON_HOSTS, BALANCING, OWNER, Cloudflare, find_cloudflare
from lab.settings import find_settings
from lab.staging import staged
from lab.storage.objectstore import LEASES
from lab.storage.place import ADMIN
from lab.storage.stores import OWNER_OF_ALL, find_store
from understudy import project
from understudy.ownership import auto_secrets
from understudy.secrets import Store, init
from understudy.settings import settings_of
from understudy.traffic import tokens

FOLDER = find_settings().state
REPOSITORIES = "UNDERSTUDY_LAB_REPOSITORIES"
RESTIC = "UNDERSTUDY_LAB_RESTIC"
RESOLVERS = "UNDERSTUDY_LAB_RESOLVERS"
AUTO = "UNDERSTUDY_LAB_AUTO"
BALANCER = "UNDERSTUDY_LAB_BALANCER"
SECRETS = FOLDER / "secrets"
AGE_KEY = FOLDER / "age.txt"


def use_lab_key() -> None:
    """Point SOPS at the lab's own age key, so that it never meets the owner's."""
    os.environ["SOPS_AGE_KEY_FILE"] = str(AGE_KEY.resolve())


def prepare_secrets(data: Mapping[str, Any]) -> None:
    """Make what the lab's owner would have been given: random values make themselves on first use.

    ``data`` is what the inventory gives every host, so that the catalogue read here is the hosts' own.
    """
    use_lab_key()
    SECRETS.mkdir(parents=True, exist_ok=True)
    init(SECRETS)
    store = Store(SECRETS)
    for file, values in {**storage_secrets(), **cloud_secrets(), **lease_secrets()}.items():
        store.add(file, values)
    settings = settings_of("lab", {**project.group_data([]), **data})
    for service in project.catalog_for(settings):
        from_outside = [
            name for name, spec in service.secrets.items() if spec.generate == "none" and not spec.optional
        ]
        if from_outside:
            store.add(service.name, {name: outside_value(name) for name in from_outside})


def outside_value(name: str) -> str:
    """What somebody else would hand out: a tunnel token in Cloudflare's form, else a value nobody else has."""
    return tunnel_token() if name == "TUNNEL_TOKEN" else f"lab-{secrets.token_urlsafe(24)}"


def tunnel_token() -> str:
    """A token of the form Cloudflare hands out: base64 of account, tunnel id and secret."""
    parts = {
        "a": secrets.token_hex(16),
        "t": str(uuid.uuid4()),
        "s": base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    return base64.b64encode(json.dumps(parts).encode()).decode()


def ownership() -> dict[str, Any]:
    """Who may own what: nobody but the first host, unless UNDERSTUDY_LAB_RESOLVERS names resolvers (https, by comma)
    or says `lab` for those of the lab's own Cloudflare.

    UNDERSTUDY_LAB_CACERT is the file on the hosts that signs them. UNDERSTUDY_LAB_AUTO: the seconds of a lease, for auto mode.
    """
    chosen, cacert = cloud().resolvers, AUTHORITY_ON_HOSTS
    asked = os.environ.get(RESOLVERS, "")
    if asked not in ("", "lab"):
        chosen, cacert = asked.split(","), os.environ.get("UNDERSTUDY_LAB_CACERT", "")
    own: dict[str, Any] = {"ownership": {"resolvers": chosen, "cacert": cacert, "boot_wait": 20}}
    if os.environ.get(AUTO):
        own["ownership"]["auto"] = {"url": lease_url(), "ttl": int(os.environ[AUTO])}
    return own if asked else {**own, "may_own": False}


def lease_url() -> str:
    """Where leases lie, by the way of the second store, so that a test can cut it off alone."""
    settings = find_settings()
    return f"s3:http://{find_store(settings, staged(settings)).outside('second')}/{LEASES}"


def lease_secrets() -> dict[str, dict[str, str]]:
    """The key to them."""
    settings = find_settings()
    key = find_store(settings, staged(settings)).keys.s3[OWNER_OF_ALL]
    return {auto_secrets.OWNER: {auto_secrets.KEY_ID: key.key_id, auto_secrets.KEY: key.secret}}


def cloud() -> Cloudflare:
    """The staged lab's Cloudflare."""
    settings = find_settings()
    return find_cloudflare(settings, staged(settings))


def cloud_secrets() -> dict[str, dict[str, str]]:
    """The owner's API token, as the owner keeps it in SOPS."""
    return {tokens.FILE: {tokens.API_TOKEN: cloud().owner_token()}}


def traffic() -> dict[str, Any]:
    """How an inventory reaches the lab's Cloudflare. UNDERSTUDY_LAB_BALANCER: seconds between looks of load balancers."""
    found = cloud()
    chosen: dict[str, Any] = {
        "api_url": found.api_url,
        "front_url": found.edge(),
        "cacert": str(found.authority),
    }
    if os.environ.get(BALANCER):
        found.control.token((*OWNER, *BALANCING), value=found.owner_token())
        chosen["balancer"] = {"interval": int(os.environ[BALANCER])}
    return {"stack": "lab", "cloudflare": chosen}


def backup_policy() -> dict[str, Any]:
    """The lab's backup policy: ticks write to the first store, the second is filled by copies.

    UNDERSTUDY_LAB_REPOSITORIES names others of the staged stores, in that order, all written by ticks.
    UNDERSTUDY_LAB_RESTIC is the policy's ``restic`` as JSON, for hosts whose own is too old.
    """
    staged_stores = storage_settings()
    restic = {"restic": json.loads(os.environ[RESTIC])} if os.environ.get(RESTIC) else {}
    chosen = os.environ.get(REPOSITORIES)
    if chosen:
        return {**restic, "repositories": {name: staged_stores[name] for name in chosen.split(",")}}
    second = {**staged_stores["second"], "copy_from": "offsite"}
    return {**restic, "repositories": {"offsite": staged_stores["offsite"], "second": second}}


def storage_settings() -> dict[str, dict[str, Any]]:
    """The staged lab's repositories (offsite, second, nas, rsyncnet, sftp), each as an inventory gives it.

    Of what understudy/protection/policy.py takes: url, tamper, and where it needs them ssh and admin_url.
    """
    settings = find_settings()
    return find_store(settings, staged(settings)).settings()


def storage_secrets(host: str = OWNER_OF_ALL) -> dict[str, dict[str, str]]:
    """Secret name to value for a host (``backup``) and for the owner (``backup-admin``), to be kept in SOPS.

    Per repository NAME: NAME_PASSWORD (restic's, the same for both), and by kind of store NAME_KEY_ID and NAME_KEY,
    NAME_REST (user:password), or NAME_SSH_KEY and NAME_KNOWN_HOSTS. The owner's may delete.
    """
    settings = find_settings()
    store = find_store(settings, staged(settings))
    return {"backup": store.secrets(host), "backup-admin": store.secrets(ADMIN)}
