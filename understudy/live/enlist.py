"""Adds a host to an inventory file: one statement after its group, the rest of the file untouched."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from ..errors import BadInput

GROUP = "primary"


def known(hosts: list[tuple[str, dict[str, Any]]], name: str) -> str:
    """The name under which an inventory has this host already, "" when it has not."""
    return next((n for n, data in hosts if name in (n, data.get("ssh_hostname"))), "")


def entry(
    name: str, user: str, services: list[str], others: bool, ssh_config: str, sudo: bool
) -> dict[str, Any]:
    """What the inventory says of an imported host: backups are ours, nothing else (design.md, decision 11)."""
    data: dict[str, Any] = {"ssh_hostname": name}
    if user:
        data["ssh_user"] = user
    if sudo:
        data["_sudo"] = True
    if ssh_config:
        data["ssh_config_file"] = str(Path(ssh_config).resolve())
    data |= {"role": "primary", "parts": ["backup"]}
    return {**data, "services": services} if others else data


def add(text: str, name: str, data: dict[str, Any], path: Path) -> str:
    """The inventory's text with the host in it. Raises BadInput when it has no group to add to."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise BadInput(f"{path}:{error.lineno}: is not valid Python: {error.msg}") from error
    ends = [node.end_lineno or 0 for node in tree.body if _assigns(node)]
    if not ends:
        raise BadInput(f"{path}: has no list called {GROUP}: add `{GROUP} = []`, then import again")
    lines = text.splitlines(keepends=True)
    pairs = "".join(f"            {json.dumps(key)}: {_python(value)},\n" for key, value in data.items())
    statement = (
        f"{GROUP}.append(\n    (\n        {json.dumps(name)},\n        {{\n{pairs}        }},\n    )\n)\n"
    )
    return "".join([*lines[: ends[-1]], statement, *lines[ends[-1] :]])


def _python(value: Any) -> str:
    return repr(value) if isinstance(value, bool) else json.dumps(value)


def _assigns(node: ast.stmt) -> bool:
    targets = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign)
        else []
    )
    return any(isinstance(target, ast.Name) and target.id == GROUP for target in targets)
