"""Homepage: no data of its own; shows what services.yaml lists, and answers its API to known hosts only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .core import Answer, App, Place, Request, as_json, page, text

SKELETON = (
    "bookmarks.yaml",
    "custom.css",
    "custom.js",
    "docker.yaml",
    "kubernetes.yaml",
    "services.yaml",
    "settings.yaml",
    "widgets.yaml",
)
VARIABLE = re.compile(r"\{\{(HOMEPAGE_VAR_[A-Z0-9_]+)\}\}")


def build(place: Place) -> App:
    config = place.path("/app/config")
    config.mkdir(parents=True, exist_ok=True)
    for name in SKELETON:
        if not (config / name).exists():
            (config / name).write_text("---\n")
    app = App("homepage", int(place.environment.get("PORT", "3000")), place)
    app.gate = lambda request: foreign_host(place, app.port, request)
    app.route("GET", "/", lambda request: page("Homepage"))
    app.route("GET", "/api/healthcheck", lambda request: text("up"))
    app.route("GET", "/api/services", lambda request: as_json(services(place, config)))
    return app


def foreign_host(place: Place, port: int, request: Request) -> Answer | None:
    """The real one's check of the Host header, on /api/ only."""
    allowed = place.environment.get("HOMEPAGE_ALLOWED_HOSTS", "")
    known = [f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", *allowed.split(",")]
    if not request.path.startswith("/api/") or allowed == "*" or request.headers.get("Host") in known:
        return None
    return as_json({"error": "Host validation failed. See logs for more details."}, 400)


def services(place: Place, config: Path) -> list[dict[str, Any]]:
    """Groups of services from services.yaml: two levels of lists, then one of settings; nothing else of YAML."""
    content = VARIABLE.sub(
        lambda match: place.environment.get(match[1], ""), (config / "services.yaml").read_text()
    )
    groups: list[dict[str, Any]] = []
    for line in content.splitlines():
        indent, words = len(line) - len(line.lstrip()), line.strip()
        if words.startswith("- ") and indent == 0:
            groups.append({"name": words[2:].rstrip(":"), "services": []})
        elif words.startswith("- ") and groups:
            groups[-1]["services"].append({"name": words[2:].rstrip(":")})
        elif ": " in words and groups and groups[-1]["services"]:
            key, _, value = words.partition(": ")
            groups[-1]["services"][-1][key] = value
    return groups
