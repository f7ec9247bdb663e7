"""What is on offer: locations, server types, images and prices, in the API's shapes."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path

import yaml

from lab.hetzner.answers import Json

FILE = Path(__file__).with_name("catalog.yaml")
GIGABYTE = 1024**3


@cache
def facts() -> Json:
    found: Json = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def price(net: str | Decimal) -> dict[str, str]:
    gross = Decimal(net) * (1 + Decimal(facts()["vat_rate"]) / 100)
    return {"net": f"{Decimal(net):.10f}", "gross": f"{gross:.16f}"}


def hourly(month: str) -> Decimal:
    hour = Decimal(month) / Decimal(str(facts()["hours_in_a_month"]))
    return hour.quantize(Decimal("0.0001"), ROUND_HALF_UP)


@cache
def locations() -> list[Json]:
    return [{**row, "description": f"{row['city']} DC Park 1"} for row in facts()["locations"]]


def location(name: str) -> Json | None:
    """By name or number."""
    return next((row for row in locations() if name in (row["name"], str(row["id"]))), None)


def _deprecation(row: Json) -> Json | None:
    if "deprecated" not in row:
        return None
    return {"announced": row["deprecated"], "unavailable_after": "2026-01-15T06:00:00Z"}


def _prices(row: Json) -> list[Json]:
    return [
        {
            "location": place["name"],
            "price_hourly": price(hourly(row["month"])),
            "price_monthly": price(row["month"]),
            "included_traffic": 20 * 1024**4,
            "price_per_tb_traffic": price(facts()["other"]["traffic_tb"]),
        }
        for place in locations()
        if place["network_zone"] in row["zones"]
    ]


def _places(row: Json) -> list[Json]:
    gone = _deprecation(row)
    return [
        {
            "id": place["id"],
            "name": place["name"],
            "deprecation": gone,
            "recommended": gone is None,
            "available": gone is None,
        }
        for place in locations()
        if place["network_zone"] in row["zones"]
    ]


@cache
def server_types() -> list[Json]:
    return [
        {
            "id": row["id"],
            "name": row["name"],
            "description": row["name"].upper(),
            "cores": row["cores"],
            "memory": float(row["memory"]),
            "disk": row["disk"],
            "deprecated": "deprecated" in row,
            "deprecation": _deprecation(row),
            "prices": _prices(row),
            "storage_type": "local",
            "cpu_type": row["cpu"],
            "category": "Cost optimized" if row["name"].startswith("cx") else "General purpose",
            "architecture": row["architecture"],
            "locations": _places(row),
        }
        for row in facts()["server_types"]
    ]


def server_type(name: str) -> Json | None:
    """By name or number."""
    return next((row for row in server_types() if name in (row["name"], str(row["id"]))), None)


@cache
def images() -> list[Json]:
    return [
        {
            "id": row["id"],
            "type": "system",
            "status": "available",
            "name": row["name"],
            "description": f"{row['flavor'].title()} {row['version']}",
            "image_size": None,
            "disk_size": 5,
            "created": "2025-08-20T08:00:00Z",
            "created_from": None,
            "bound_to": None,
            "os_flavor": row["flavor"],
            "os_version": row["version"],
            "rapid_deploy": True,
            "protection": {"delete": False},
            "deprecated": None,
            "deprecation": None,
            "deleted": None,
            "labels": {},
            "architecture": row["architecture"],
        }
        for row in facts()["images"]
    ]


def image(name: str, architecture: str) -> Json | None:
    """By number, or by name for an architecture."""
    for row in images():
        if str(row["id"]) == name or (row["name"] == name and row["architecture"] == architecture):
            return row
    return None


def pricing() -> Json:
    other = facts()["other"]
    everywhere = [place["name"] for place in locations()]
    address = {
        "ipv4": Decimal(other["primary_ipv4"]),
        "ipv6": Decimal(0),
    }
    return {
        "currency": "EUR",
        "vat_rate": facts()["vat_rate"],
        "primary_ips": [
            {
                "type": kind,
                "prices": [
                    {
                        "location": place,
                        "price_hourly": price(hourly(str(month))),
                        "price_monthly": price(month),
                    }
                    for place in everywhere
                ],
            }
            for kind, month in address.items()
        ],
        "floating_ips": [
            {
                "type": kind,
                "prices": [{"location": place, "price_monthly": price("3.00")} for place in everywhere],
            }
            for kind in address
        ],
        "image": {"price_per_gb_month": price(other["image_gb"])},
        "volume": {"price_per_gb_month": price(other["volume_gb"])},
        "server_backup": {"percentage": other["backup_percent"]},
        "server_types": [
            {"id": row["id"], "name": row["name"], "prices": row["prices"]} for row in server_types()
        ],
        "load_balancer_types": [],
        "floating_ip": {"price_monthly": price("3.00")},
    }
