"""The first line of every verb: which inventory, which hosts, in which role. Read from the file's text, run nothing."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["hosts", "line"]


def line(verb: str, inventory: str, limit: str = "") -> str:
    """``plan  inventory inventory/prod.py, host lemongrab (primary)``; hosts that code finds later are not named."""
    found = {name: role for name, role in hosts(Path(inventory)).items() if limit in ("", name)}
    named = [f"{name} ({role})" for name, role in found.items()] or ([limit] if limit else [])
    if not named:
        return f"{verb}  inventory {inventory}"
    return f"{verb}  inventory {inventory}, host{'s' if len(named) > 1 else ''} {', '.join(named)}"


def hosts(path: Path) -> dict[str, str]:
    """Host to role, for what stands literally in an inventory: ``primary = [("NAME", {..., "role": ...})]``."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}  # the verb itself says what is wrong
    found: dict[str, str] = {}
    for node in tree.body:
        target, value = _assigned(node)
        if isinstance(value, ast.List) and not target.startswith("_"):
            for element in value.elts:
                found.update(_host(element, target))
    return found


def _assigned(node: ast.stmt) -> tuple[str, ast.expr | None]:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    return "", None


def _host(element: ast.expr, group: str) -> dict[str, str]:
    if not isinstance(element, ast.Tuple) or len(element.elts) != 2:
        return {}
    name, data = element.elts
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return {}
    return {name.value: _role(data) or group}


def _role(data: ast.expr) -> str:
    if isinstance(data, ast.Dict):
        for key, value in zip(data.keys, data.values, strict=True):
            named = isinstance(key, ast.Constant) and key.value == "role"
            if named and isinstance(value, ast.Constant):
                return str(value.value)
    return ""
