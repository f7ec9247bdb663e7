"""Which server types to try, and where, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import BadInput, Refused
from .model import Offer, Prices
from .price import Cost, cost
from .wish import Wish


def candidates(offers: Sequence[Offer], prices: Prices, wish: Wish) -> list[Offer]:
    """What may be ordered, best first: by price, then by the wished order of locations.

    Raises BadInput for a type or location that Hetzner does not have and for wishes that nothing fulfils, Refused
    when everything that fulfils them costs more than the ceiling.
    """
    _require_known(offers, wish)
    fitting = [offer for offer in offers if offer.location in wish.locations and _fits(offer, wish)]
    if not fitting:
        raise BadInput(_nothing(wish))
    payable = [offer for offer in fitting if not _too_dear(cost(offer, prices, wish), wish)]
    if not payable:
        raise Refused(_ceiling(min((cost(o, prices, wish) for o in fitting), key=lambda c: c.monthly), wish))
    return sorted(payable, key=lambda offer: _order(offer, wish))


def _require_known(offers: Sequence[Offer], wish: Wish) -> None:
    types, places = {offer.type for offer in offers}, {offer.location for offer in offers}
    for name in wish.types:
        if name not in types:
            raise BadInput(
                f"Hetzner has no server type {name!r}: choose one of {_listed(types)}, or leave types out"
            )
    for name in wish.locations:
        if name not in places:
            raise BadInput(f"Hetzner has no location {name!r}: choose of {_listed(places)}")


def _fits(offer: Offer, wish: Wish) -> bool:
    if wish.types:
        return offer.type in wish.types
    if wish.architecture not in ("any", offer.architecture):
        return False
    enough = offer.cores >= wish.cores and offer.memory >= wish.memory and offer.disk >= wish.disk
    return enough and offer.available


def _too_dear(price: Cost, wish: Wish) -> bool:
    return wish.max_monthly is not None and price.monthly > wish.max_monthly


def _order(offer: Offer, wish: Wish) -> tuple[object, ...]:
    place = wish.locations.index(offer.location)
    if wish.types:
        return (wish.types.index(offer.type), place)
    return (offer.monthly, place, offer.type)


def _nothing(wish: Wish) -> str:
    where = ", ".join(wish.locations)
    if wish.types:
        return f"{', '.join(wish.types)} is not sold in {where}: name other types or locations"
    return (
        f"no server type in {where} has {wish.cores} cores, {wish.memory:g} GB of memory and {wish.disk} GB of disk in "
        f"architecture {wish.architecture}: ask for less, or name more locations"
    )


def _ceiling(cheapest: Cost, wish: Wish) -> str:
    return (
        f"the cheapest that fits costs {cheapest.monthly:.2f} EUR net a month and hetzner.max_monthly is "
        f"{wish.max_monthly:.2f}: raise it, or ask for less (nothing was created)"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
