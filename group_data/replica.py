"""Hosts that stand ready. They carry every move group unless `groups` names some."""

role = "replica"

# What `understudy replica up` makes at Hetzner (docs/hetzner.md). The cheapest type that has all of this is taken.
hetzner = {
    "name": "understudy",
    "architecture": "x86",
    "cores": 2,
    "memory": 4,
    "disk": 40,
    "locations": ["fsn1", "nbg1", "hel1"],
    "max_monthly": 15,
}
