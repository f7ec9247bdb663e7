"""How ``understudy --help`` is laid out: the nine verbs of every day first, the rest by what it is about."""

from __future__ import annotations

import typer

MAIN = ("audit", "import", "plan", "converge", "backup", "restore", "drill", "switchover", "status")
PANELS = {
    "Every day": MAIN,
    "One service": ("update", "retire", "snapshots", "mount", "jobs"),
    "Another host": ("failover", "watch", "replica", "recover", "edge"),
    "Around it": ("init", "secrets", "repo", "host", "kit"),
    "Practice": ("lab", "demo"),
}
_ORDER = [name for names in PANELS.values() for name in names]


def arrange(app: typer.Typer) -> None:
    """Put every verb into its panel and in its order; one that nobody placed comes last."""
    for command in app.registered_commands:
        command.rich_help_panel = _panel(_name(command))
    for group in app.registered_groups:
        group.rich_help_panel = _panel(str(group.name))
    app.registered_commands.sort(key=lambda command: _rank(_name(command)))
    app.registered_groups.sort(key=lambda group: _rank(str(group.name)))


def _name(command: typer.models.CommandInfo) -> str:
    function = command.callback.__name__ if command.callback else ""
    return command.name or function.removesuffix("_").replace("_", "-")


def _panel(name: str) -> str:
    return next((panel for panel, names in PANELS.items() if name in names), "Around it")


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)
