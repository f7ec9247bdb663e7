"""Which requests prove that a host's services work: each service directly and by its public name."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Any

from .desired import ProbeWish
from .proxy import hostname
from .service import Service
from .spec import Probe

if TYPE_CHECKING:
    from .desired import Desired


def wishes(result: Desired) -> list[ProbeWish]:
    """All probes of a host, in service order: direct ones first, then through the proxy."""
    found: list[ProbeWish] = []
    for name in result.services:
        service = result.catalog.services[name]
        # Where the owner starts and stops it, a port that does not answer may be as he wants it.
        found += _direct(service) or (_ports(service) if result.settings.parts.stacks else [])
        if result.settings.parts.proxy:
            found += _routed(result, service)
    return found


def direct(result: Desired, service: Service) -> list[dict[str, Any]]:
    """Requests that prove a service without the proxy: its own probe and each route's, at the service itself."""
    found = [wish.request for wish in _direct(service)]
    for route in service.routes:
        probe = route.probe or service.probe()
        if probe is not None and not route.to.startswith("static:"):
            name = hostname(route.host[0], result.settings.domain)
            wanted = request(name, service.endpoint(route.to).url + probe.path, probe, name)
            if not any(
                known["url"] == wanted["url"] and known["method"] == wanted["method"] for known in found
            ):
                found.append(wanted)
    return found or [wish.request for wish in _ports(service)]


def _ports(service: Service) -> list[ProbeWish]:
    """Where nothing better is known: one of the ports that are published on loopback or everywhere serves."""
    if service.probe() or any(route.probe for route in service.routes):
        return []
    urls = [f"tcp://127.0.0.1:{port}" for port in service.ports_here()]
    if not urls:
        return []
    asked = {"name": service.name, "url": urls[0], "any": urls[1:], "timeout": 10.0, "wait": 120.0}
    return [ProbeWish(service.name, service.name, asked)]


def _direct(service: Service) -> list[ProbeWish]:
    probe = service.probe()
    if probe is None or not probe.to:
        return []
    url = service.endpoint(probe.to).url + probe.path
    return [ProbeWish(service.name, service.name, request(service.name, url, probe, None))]


def _routed(result: Desired, service: Service) -> list[ProbeWish]:
    found = []
    for route in service.routes:
        probe = route.probe or service.probe()
        if probe is None:
            continue
        for label in route.host:
            name = hostname(label, result.settings.domain)
            url = f"http://127.0.0.1:{result.settings.proxy_port}{probe.path}"
            found.append(ProbeWish(service.name, name, request(name, url, probe, name)))
    return found


def public(result: Desired, group: str) -> list[dict[str, Any]]:
    """Requests that prove a move group's public names as visitors ask for them."""
    front = result.settings.cloudflare.front_url
    names = {name for name in result.services if result.catalog.services[name].block.group == group}
    routed = [wish for name in names for wish in _routed(result, result.catalog.services[name])]
    return [as_visitor(wish.request, front) for wish in sorted(routed, key=lambda wish: wish.name)]


def as_visitor(probe: dict[str, Any], front_url: str = "") -> dict[str, Any]:
    """A probe of the proxy as a visitor's request. ``front_url``: as in the inventory's `cloudflare`."""
    name, place = str(probe["name"]), urllib.parse.urlsplit(str(probe["url"]))
    path = (place.path or "/") + (f"?{place.query}" if place.query else "")
    if front_url:
        return {**probe, "url": f"{front_url.rstrip('/')}{path}", "host": name, "wait": 0}
    return {**probe, "url": f"https://{name}{path}", "host": None, "wait": 0}


def request(name: str, url: str, probe: Probe, host: str | None) -> dict[str, Any]:
    """One probe in the form of the agent's probe verb."""
    return {
        "name": name,
        "url": url,
        "host": host,
        "method": probe.method,
        "headers": probe.headers,
        "body": probe.body,
        "status": probe.status,
        "text": probe.text,
        "json": probe.json_,
        "content_type": probe.content_type,
        "timeout": probe.timeout,
        "wait": probe.wait,
    }
