"""`understudy edge check` against the emulated Cloudflare: what it proves, measures, and leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cloudflare.dns import Records
from understudy.errors import UnderstudyError
from understudy.traffic import converge, tunnels
from understudy.traffic.canary import Canary

from .edge_world import EdgeWorld, edge_world, until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EdgeWorld]:
    with edge_world(tmp_path) as found:
        yield found


def canary(world: EdgeWorld) -> Canary:
    place = world.place
    return Canary(
        world.edge("lemongrab"), tuple(place.resolvers), str(place.authority), place.edge(), lambda line: None
    )


def test_it_measures_both_ways_and_leaves_nothing(world: EdgeWorld) -> None:
    edge = world.edge("lemongrab")
    converge.apply(edge)
    world.connect("lemongrab", tunnels.token(edge, "lemongrab"))
    until(lambda: world.ask("vault.example.org")[0] == 200)
    before = world.place.control.data()
    world.place.control.delays(text=(0.3, 0.3), route=(0.8, 0.8))
    found = canary(world).run(rounds=2)
    assert found.stale_batch == "refused whole (code 81044)"
    assert all(second >= 0.3 for seconds in found.texts.values() for second in seconds)
    assert len(found.texts) == 2 and len(found.route) == 4
    assert all(second >= 0.8 for second in found.route)
    after = world.place.control.data()
    assert after["records"] == before["records"]
    assert [t["name"] for t in after["tunnels"].values() if not t["deleted_at"]] == [
        "understudy-lab-lemongrab"
    ]
    assert any("taken back" in line for line in found.lines())


def test_a_zone_whose_batch_is_no_transaction_is_found_out(
    world: EdgeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the real API ever worked like this, a flip would not be safe: the canary has to say so."""
    real = Records._delete

    def lenient(self: Records, data: dict[str, object], zone: str, key: str) -> object:
        return real(self, data, zone, key) if key in data["records"] else {"id": key, **BLANK}  # type: ignore[operator]

    monkeypatch.setattr(Records, "_delete", lenient)
    with pytest.raises(UnderstudyError, match="a flip would not be safe in this zone"):
        canary(world).run(rounds=1)
    assert not world.place.control.data()["records"]


BLANK = {
    "name": "", "type": "TXT", "content": "", "proxied": False, "ttl": 60, "settings": {}, "comment": None,
    "tags": [], "created_on": "", "modified_on": "",
}  # fmt: skip
