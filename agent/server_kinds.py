"""Which images are database servers, by the last part of their names."""

from __future__ import annotations

import re

__all__ = ["INTERNAL", "server_kind"]

_SERVERS = {
    "postgres": re.compile(
        r"^(postgres|postgresql|postgis|timescaledb|pgvector|pgvecto-rs|pgautoupgrade|.*-postgres)$"
    ),
    "mariadb": re.compile(r"^(mariadb|mysql|mysql-server|percona)$"),
    "redis": re.compile(r"^(redis|valkey|keydb|dragonfly)$"),
    "mongo": re.compile(r"^(mongo|mongodb)$"),
    "influxdb": re.compile(r"^influxdb$"),
}
INTERNAL = {"postgres", "template0", "template1", "mysql", "information_schema", "performance_schema", "sys"}
"""Databases that servers keep for themselves."""


def server_kind(image: str) -> str | None:
    """postgres, mariadb, redis, mongo, influxdb; None when the image's name says nothing of the kind."""
    name = image.partition("@")[0].rsplit("/", 1)[-1].partition(":")[0]
    return next((kind for kind, pattern in _SERVERS.items() if pattern.match(name)), None)
