"""What `plan` says about money: every replica, the one that `replica up` would make, and where backups lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UnderstudyError
from . import listing
from .inventory import TOKEN, Cloud
from .price import storage_lines
from .up import quote


def replica_costs(cloud: Cloud) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What each replica costs by its name, and the sentences for people. What cannot be read is said, never raised."""
    if not cloud.token:
        return {}, [f"prices at Hetzner need {TOKEN}"] if cloud.asks_for_one else []
    try:
        api = cloud.api(read=8.0, patience=10.0)
        rows = listing.rows(api, cloud.stack)
        lines = [_sentence(row) for row in rows]
        if cloud.asks_for_one and not any(row["name"] == cloud.wish().name for row in rows):
            lines.append(f"`understudy replica up` would cost {quote(api, cloud.wish())[1].sentence()}")
    except UnderstudyError as error:
        return {}, [f"what Hetzner charges could not be read: {error}"]
    keys = ("monthly_net", "hourly_net", "so_far_net")
    return {row["name"]: {key: row[key] for key in keys} for row in rows}, lines


def _sentence(row: Mapping[str, Any]) -> str:
    if row["monthly_net"] is None:
        return f"{row['name']}: {row['type']} is not in the price list any more"
    hourly = f", {row['hourly_net']:.4f} an hour" if row["hourly_net"] is not None else ""
    return f"{row['name']} ({row['type']} in {row['location']}, {row['state']}): {row['monthly_net']:.2f} EUR a month net{hourly}"


def storage_costs(hosts: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Sentences about the repositories of all hosts whose providers' prices are known."""
    urls: dict[str, str] = {}
    for _, data in hosts:
        repositories = (data.get("backup") or {}).get("repositories") or {}
        for name, repository in repositories.items():
            places = (repository.get("url", ""), repository.get("ssh", ""))
            urls.setdefault(name, " ".join(filter(None, places)))
    return storage_lines(urls)
