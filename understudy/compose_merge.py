"""How Compose lays one file over another."""

from __future__ import annotations

from typing import Any

from .yamlfile import Tagged

REPLACED = {"command", "entrypoint", "test"}
NAMED = {"environment", "labels", "args", "extra_hosts", "sysctls", "annotations", "depends_on", "networks"}
BY_TARGET = {"volumes", "devices", "secrets", "configs"}
LISTED = {"dns", "dns_search", "dns_opt", "tmpfs", "env_file"}


def merge(base: Any, over: Any, key: str = "") -> Any:
    """Merge two fragments: mappings by key, sequences appended, mounts by their target, scalars replaced."""
    if isinstance(over, Tagged):
        return over.value if over.tag == "!override" else None
    if key in NAMED and (isinstance(base, list) or isinstance(over, list)):
        base, over = as_mapping(base, key), as_mapping(over, key)
    if key in LISTED:
        base, over = as_list(base), as_list(over)
    if isinstance(base, dict) and isinstance(over, dict):
        return _mappings(base, over)
    if isinstance(base, list) and isinstance(over, list):
        if key in BY_TARGET:
            return list({target_of(item): item for item in [*base, *over]}.values())
        return base + [item for item in over if item not in base]
    return base if over is None else over


def _mappings(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        if isinstance(value, Tagged) and value.tag == "!reset":
            result.pop(key, None)
        elif key in REPLACED or key not in result:
            result[key] = merge(None, value, key) if isinstance(value, Tagged) else value
        else:
            result[key] = merge(result[key], value, key)
    return result


def plain(value: Any) -> Any:
    """A fragment without tags: what a file means that is laid over nothing."""
    if isinstance(value, Tagged):
        return plain(value.value) if value.tag == "!override" else None
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if not (isinstance(v, Tagged) and v.tag == "!reset")}
    return [plain(item) for item in value] if isinstance(value, list) else value


def as_list(value: Any) -> list[Any]:
    """Compose takes one for a list of one."""
    return [] if value is None else value if isinstance(value, list) else [value]


def as_mapping(value: Any, key: str = "") -> dict[str, Any]:
    """``A=1`` and ``A: 1`` are the same; a name alone has no value."""
    if isinstance(value, dict):
        return value
    sign = ":" if key == "extra_hosts" else "="
    pairs = ((str(item), str(item).partition(sign)) for item in as_list(value))
    return {name: text if found else None for _, (name, found, text) in pairs}


def target_of(item: Any) -> str:
    """What makes two entries of a list of mounts the same: where they appear in the container."""
    if isinstance(item, dict):
        return str(item.get("target") or item.get("source") or item)
    parts = str(item).split(":")
    return parts[1] if len(parts) > 1 else parts[0]
