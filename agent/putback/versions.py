"""May data made by one version be served by another? (protocol.md §10: tag and digest, never the image id)"""

from __future__ import annotations

import re
from typing import Any

from ..data.plan import Service
from ..errors import AgentError

__all__ = ["check", "compare", "number", "split"]

_NUMBER = re.compile(r"v?(\d+(?:\.\d+)*)")


def split(reference: str) -> tuple[str, str, str]:
    """Name, tag and digest of an image reference; "" for what it does not say."""
    rest, _, digest = reference.partition("@")
    folder, slash, last = rest.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{folder}{slash}{name}", tag, digest


def number(tag: str) -> tuple[int, ...]:
    """The version that a tag begins with (``v1.2.3-alpine`` is 1.2.3); () when it begins with none."""
    found = _NUMBER.match(tag)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def compare(service: Service, manifest: dict[str, Any]) -> list[dict[str, str]]:
    """Each container whose image differs: {"container", "snapshot", "declared", "verdict", "why"}.

    ``verdict`` is ok, note or refused.
    """
    found = []
    made = manifest.get("images") or {}
    for container, declared in sorted(service.images.items()):
        facts = made.get(container)
        if facts is None:
            continue
        verdict, why = _judge(service, container, facts, declared)
        if why:
            found.append(
                {
                    "container": container,
                    "snapshot": str(facts.get("image") or ""),
                    "declared": declared,
                    "verdict": verdict,
                    "why": why,
                }
            )
    return found


def _judge(service: Service, container: str, facts: dict[str, Any], declared: str) -> tuple[str, str]:
    then_name, then_tag, then_digest = split(str(facts.get("image") or ""))
    now_name, now_tag, now_digest = split(declared)
    then_digest = then_digest or str(facts.get("digest") or "").rpartition("@")[2]
    if then_name != now_name:
        return "note", f"made with {then_name}, now {now_name}"
    if then_tag == now_tag:
        differ = then_digest and now_digest and then_digest != now_digest
        return ("note", "the same tag, another build") if differ else ("ok", "")
    then, now = number(then_tag), number(now_tag)
    if not then or not now:
        return "note", f"{then_tag or 'no tag'} and {now_tag or 'no tag'} cannot be put in order"
    if container in service.servers:
        return "note", "another version of the server: its databases are loaded from a logical dump"
    return _order(service, then, now)


def _order(service: Service, then: tuple[int, ...], now: tuple[int, ...]) -> tuple[str, str]:
    length = max(len(then), len(now))
    long_then, long_now = (value + (0,) * (length - len(value)) for value in (then, now))
    if long_then > long_now:
        if service.version.get("downgrade") == "allowed":
            return "note", "older than the snapshot, which this application allows"
        return "refused", "older than the snapshot: it may not read newer data"
    step = service.version.get("major_step")
    if step is not None and now[0] - then[0] > int(step):
        return (
            "refused",
            f"{now[0] - then[0]} major versions newer than the snapshot, at most {step} at a time",
        )
    return "note", "newer than the snapshot: it migrates the data at its start"


def check(service: Service, manifest: dict[str, Any], allow: bool) -> list[dict[str, str]]:
    """``compare``; raises AgentError kind "version" for the first refused one unless ``allow``."""
    found = compare(service, manifest)
    for one in found:
        if one["verdict"] == "refused" and not allow:
            _, tag, _ = split(one["snapshot"])
            raise AgentError(
                f"{service.name}: the snapshot was made by {one['snapshot']} and {one['container']} is declared as "
                f"{one['declared']}, {one['why']}. Declare {tag} and converge, or repeat with allow_version; "
                "nothing was changed",
                "version",
                versions=found,
            )
    return found
