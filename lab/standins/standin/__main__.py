"""``python3 -m standin NAME [ARGUMENTS]``: run one stand-in, as the entrypoint of its image does."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from .core import App, Place, become, serve

NAMES = (
    "vaultwarden", "nextcloud", "jellyfin", "kitchenowl", "travelsync", "goatcounter", "uptime_kuma", "homepage",
    "portainer", "gokapi", "planning_poker",
)  # fmt: skip


def main(arguments: list[str]) -> None:
    name = arguments[0].replace("-", "_") if arguments else ""
    if name not in NAMES:
        sys.exit(f"usage: python3 -m standin {'|'.join(NAMES)}")
    root = Path(os.environ.get("STANDIN_ROOT", "/"))
    place = Place(dict(os.environ), tuple(arguments[1:]), root)
    app: App = importlib.import_module(f"{__package__}.{name}").build(place)
    if app.run_as:
        become(app.run_as)
    serve(app)


if __name__ == "__main__":
    main(sys.argv[1:])
