"""What a replica costs, from the live price list; storage from a dated file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from .model import Offer, Prices
from .wish import Wish

FILE = Path(__file__).parent.parent / "prices.yaml"
HOURS = Decimal(730)


@dataclass(frozen=True)
class Cost:
    """Net EUR by month and hour; ``vat`` in percent; ``parts`` name what is in it, per month."""

    monthly: Decimal
    hourly: Decimal
    vat: Decimal
    parts: tuple[tuple[str, Decimal], ...]

    @property
    def gross(self) -> Decimal:
        """By month with VAT."""
        return self.monthly * (1 + self.vat / 100)

    def sentence(self) -> str:
        """For people: 5.99 EUR a month net (7.13 with 19 % VAT), 0.0096 an hour: cx23 5.49 + IPv4 0.50."""
        parts = " + ".join(f"{name} {amount:.2f}" for name, amount in self.parts)
        return (
            f"{self.monthly:.2f} EUR a month net ({self.gross:.2f} with {self.vat:.0f} % VAT), "
            f"{self.hourly:.4f} an hour: {parts}"
        )

    def as_facts(self) -> dict[str, Any]:
        """For machines."""
        return {
            "monthly_net": float(self.monthly),
            "hourly_net": float(self.hourly),
            "monthly_gross": round(float(self.gross), 4),
            "currency": "EUR",
        }


def cost(offer: Offer, prices: Prices, wish: Wish) -> Cost:
    """What an order of this offer costs with its address and volume."""
    address = prices.address_monthly.get(offer.location, Decimal(0))
    parts = [(offer.type, offer.monthly), ("IPv4", address)]
    hourly = offer.hourly + prices.address_hourly.get(offer.location, Decimal(0))
    if wish.volume:
        volume = prices.volume_gb * wish.volume
        parts.append((f"{wish.volume} GB volume", volume))
        hourly += volume / HOURS
    return Cost(sum((amount for _, amount in parts), Decimal(0)), hourly, prices.vat, tuple(parts))


def storage_lines(repositories: Mapping[str, str]) -> list[str]:
    """One sentence a repository whose provider's price is known: name to URL. Each names the date of the price."""
    book = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    lines = []
    for name, url in repositories.items():
        for row in book["storage"]:
            if row["match"] in url:
                lines.append(
                    f"{name}: {row['provider']} {row['per_tb_month']} {row['currency']} per TB and month, {row['note']} "
                    f"(price of {row['date']}, {row['source']})"
                )
                break
    return lines
