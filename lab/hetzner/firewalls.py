"""Firewalls: rules, and the servers they are applied to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from lab.hetzner.actions import Actions, show
from lab.hetzner.answers import ApiError, Call, Json, invalid, now
from lab.hetzner.keys import rename
from lab.hetzner.labels import check, matches
from lab.hetzner.state import State

MOST_RULES, MOST_NETWORKS, MOST_A_SERVER = 50, 100, 5
PROTOCOLS = ("tcp", "udp", "icmp", "esp", "gre")


class Firewalls:
    """The calls under /firewalls."""

    def __init__(self, state: State, actions: Actions) -> None:
        self.state, self.actions = state, actions

    def search(self, call: Call) -> list[Json]:
        rows = self.state.rows("firewalls", call.first("name"), call.first("label_selector"))
        return [self.show(row) for row in rows]

    def create(self, call: Call) -> Json:
        name = str(call.need("name"))
        self.state.require_free_name("firewalls", name)
        row: Json = {
            "id": self.state.new_id(),
            "name": name,
            "labels": check(call.body.get("labels")),
            "created": now(),
            "rules": rules_of(call.body.get("rules") or []),
            "_servers": [],
            "_selectors": [],
        }
        self.state.data["firewalls"][str(row["id"])] = row
        actions = self._apply(row, call.body.get("apply_to") or [])
        return {"firewall": self.show(row), "actions": actions}

    def get(self, call: Call) -> Json:
        return {"firewall": self.show(self.state.get("firewalls", call.id))}

    def update(self, call: Call) -> Json:
        row = self.state.get("firewalls", call.id)
        rename(self.state, "firewalls", row, call)
        return {"firewall": self.show(row)}

    def delete(self, call: Call) -> None:
        row = self.state.get("firewalls", call.id)
        if self.targets(row) or row["_selectors"]:
            raise ApiError(422, "resource_in_use", f"firewall with ID '{call.id}' is still in use")
        del self.state.data["firewalls"][call.id]

    def set_rules(self, call: Call) -> Json:
        row = self.state.get("firewalls", call.id)
        row["rules"] = rules_of(call.body.get("rules") or [])
        return {"actions": [show(self.actions.begin("set_firewall_rules", [("firewall", row["id"])]))]}

    def apply(self, call: Call) -> Json:
        row = self.state.get("firewalls", call.id)
        return {"actions": self._apply(row, call.need("apply_to"))}

    def remove(self, call: Call) -> Json:
        row = self.state.get("firewalls", call.id)
        done = []
        for resource in call.need("remove_from"):
            if resource.get("type") == "label_selector":
                row["_selectors"].remove(resource["label_selector"]["selector"])
                pair = [("firewall", row["id"])]
            else:
                number = resource["server"]["id"]
                if number not in row["_servers"]:
                    raise ApiError(422, "firewall_resource_not_found", "firewall is not applied to it")
                row["_servers"].remove(number)
                pair = [("firewall", row["id"]), ("server", number)]
            done.append(show(self.actions.begin("remove_firewall", pair)))
        return {"actions": done}

    def _apply(self, row: Json, resources: Iterable[Json]) -> list[Json]:
        return [show(self._apply_one(row, resource)) for resource in resources]

    def _apply_one(self, row: Json, resource: Json) -> Json:
        if resource.get("type") == "label_selector":
            row["_selectors"].append(resource["label_selector"]["selector"])
            return self.actions.begin("apply_firewall", [("firewall", row["id"])])
        number = self.state.get("servers", resource["server"]["id"])["id"]
        self.attach(row, number)
        return self.actions.begin("apply_firewall", [("firewall", row["id"]), ("server", number)])

    def attach(self, row: Json, server: int) -> None:
        """Put a server under a firewall, or the API's refusal."""
        if server in row["_servers"]:
            raise ApiError(422, "firewall_already_applied", f"firewall is already applied to server {server}")
        if len(self.of_server(server)) >= MOST_A_SERVER:
            raise ApiError(422, "resource_limit_exceeded", "too many firewalls for this server")
        row["_servers"].append(server)

    def of_server(self, server: int) -> list[Json]:
        """Every firewall a server is under, directly or by its labels."""
        return [row for row in self.state.data["firewalls"].values() if server in self.targets(row)]

    def targets(self, row: Json) -> list[int]:
        by_label = [
            server["id"]
            for server in self.state.data["servers"].values()
            if any(matches(selector, server["labels"]) for selector in row["_selectors"])
        ]
        return sorted({*row["_servers"], *by_label})

    def forget(self, server: int) -> None:
        """A server is gone."""
        for row in self.state.data["firewalls"].values():
            row["_servers"] = [number for number in row["_servers"] if number != server]

    def show(self, row: Json) -> Json:
        direct = [{"type": "server", "server": {"id": number}} for number in row["_servers"]]
        chosen = [
            {
                "type": "label_selector",
                "label_selector": {"selector": selector},
                "applied_to_resources": [
                    {"type": "server", "server": {"id": server["id"]}}
                    for server in self.state.data["servers"].values()
                    if matches(selector, server["labels"])
                ],
            }
            for selector in row["_selectors"]
        ]
        found = {key: value for key, value in row.items() if not key.startswith("_")}
        return {**found, "applied_to": [*direct, *chosen]}


def rules_of(rules: list[Json]) -> list[Json]:
    """The rules with every key, networks in their canonical form; the API's refusal for wrong ones."""
    if len(rules) > MOST_RULES:
        raise invalid("rules", f"Longer than maximum length {MOST_RULES}.")
    return [_rule(rule) for rule in rules]


def _rule(rule: Json) -> Json:
    if rule.get("direction") not in ("in", "out"):
        raise invalid("rules", "direction must be one of: in, out")
    if rule.get("protocol") not in PROTOCOLS:
        raise invalid("rules", "protocol must be one of: " + ", ".join(PROTOCOLS))
    if (rule["protocol"] in ("tcp", "udp")) != bool(rule.get("port")):
        raise invalid("rules", "port is needed for tcp and udp, and only there")
    sources, targets = _networks(rule.get("source_ips")), _networks(rule.get("destination_ips"))
    if not (sources if rule["direction"] == "in" else targets):
        raise invalid("rules", "source_ips are needed for direction in, destination_ips for out")
    return {
        "description": rule.get("description"),
        "direction": rule["direction"],
        "protocol": rule["protocol"],
        "port": rule.get("port"),
        "source_ips": sources,
        "destination_ips": targets,
    }


def _networks(texts: list[str] | None) -> list[str]:
    if len(texts or []) > MOST_NETWORKS:
        raise invalid("rules", f"Longer than maximum length {MOST_NETWORKS}.")
    try:
        return [str(ipaddress.ip_network(text)) for text in texts or []]
    except ValueError as error:
        raise invalid("rules", str(error)) from error
