"""The Caddyfile of a host, generated from the routes of the services placed on it."""

from __future__ import annotations

from dataclasses import dataclass

from .desired import Desired, Validator
from .jinja import render
from .service import Service
from .spec import Route


@dataclass(frozen=True)
class ProxyRoute:
    """One ``handle`` block. Exactly one of ``port`` and ``static`` is set."""

    id: str
    hostnames: list[str]
    port: int
    static: str
    compression: bool
    forwarded_https: bool
    host_header: bool
    bare: bool
    request_headers: dict[str, str]
    response_headers: dict[str, str]
    max_body: str | None


def hostname(label: str, domain: str) -> str:
    """The public name of a route's label; ``@`` is the domain itself."""
    return domain if label == "@" else f"{label}.{domain}"


def routes(result: Desired) -> list[ProxyRoute]:
    """Every route of the host's services, in the order of their names."""
    found = []
    for name in result.services:
        service = result.catalog.services[name]
        for index, route in enumerate(service.routes):
            found.append(_route(service, route, index, result.settings.domain))
    return found


def _route(service: Service, route: Route, index: int, domain: str) -> ProxyRoute:
    static = route.to.removeprefix("static:") if route.to.startswith("static:") else ""
    return ProxyRoute(
        id=f"{service.name}-{index}" if index else service.name,
        hostnames=[hostname(label, domain) for label in route.host],
        port=0 if static else service.endpoint(route.to).port,
        static=static,
        compression=route.compression,
        forwarded_https=route.forwarded_https,
        host_header=route.host_header,
        bare=route.bare,
        request_headers=route.request_headers,
        response_headers=route.response_headers,
        max_body=route.max_body,
    )


def caddyfile(result: Desired) -> str:
    """The whole Caddyfile: loopback only, 421 for names nobody routes."""
    return render("caddy/Caddyfile.j2", port=result.settings.proxy_port, routes=routes(result))


def validator(service: Service) -> Validator:
    """``caddy validate`` in the image that will run, on the staged configuration."""
    conf = f"{service.path}/conf"
    image = next(c.image for c in service.containers.values() if "caddy" in c.image)
    argv = (
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "--volume",
        f"{{stage}}{conf}:/etc/caddy:ro",
        "--entrypoint",
        "caddy",
        image,
        "validate",
        "--adapter",
        "caddyfile",
        "--config",
        "/etc/caddy/Caddyfile",
    )
    return Validator("caddy validate", argv, (f"{conf}/Caddyfile",), service.name, 120)
