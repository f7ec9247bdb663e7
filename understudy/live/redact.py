"""Makes a report shareable: names of hosts, people, places in the net and accounts are replaced, the same one always alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from .report import Report, from_json

ADDRESS = re.compile(
    r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])|(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{0,4}(?![\w:])",
    re.I,
)
MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
LOOPBACK = ("127.", "0.0.0.0")  # noqa: S104 - nobody's address
TARGET = re.compile(
    r"\b(?:s3|b2|sftp|rest|rclone|azure|gs|swift|ssh):[^\s,;]+|(?<![\w/.-])[A-Za-z][\w.-]*:(?![/\d])[\w./-]+"
)


def report(whole: Report, census: Mapping[str, Any]) -> Report:
    """The same report with every name replaced that tells whose machine this is."""
    return from_json(_walk(asdict(whole), _names(census, asdict(whole))))


def _names(census: Mapping[str, Any], report: Any) -> list[tuple[re.Pattern[str], str]]:
    """Patterns of what is known by name, longest first, each with its replacement."""
    known: dict[str, str] = {}
    machine = census.get("machine") or {}
    for number, person in enumerate(machine.get("people") or [], 0):
        if person["name"] != "root":
            known[person["name"]] = f"user-{number}"
    hostname = (machine.get("os") or {}).get("hostname")
    if hostname:
        known[hostname] = "host"
    host = str(report.get("host", "")) if isinstance(report, dict) else ""
    for word in (host, host.rpartition("@")[2]):
        if word and word not in ("localhost", "@local"):
            known.setdefault(word, "host")
    for number, name in enumerate(sorted(set(_hostnames(report))), 1):
        known.setdefault(name, f"name-{number}.example")
    ordered = sorted(known.items(), key=lambda pair: -len(pair[0]))
    return [(re.compile(rf"(?<![\w.]){re.escape(old)}(?![\w])"), new) for old, new in ordered]


def _hostnames(report: Any) -> Iterator[str]:
    for route in report.get("routes") or []:
        yield route["host"]
        labels = route["host"].split(".")
        if len(labels) > 2:
            yield ".".join(labels[-2:])


def _walk(value: Any, names: list[tuple[re.Pattern[str], str]]) -> Any:
    if isinstance(value, dict):
        return {key: _walk(child, names) for key, child in value.items()}
    if isinstance(value, list):
        return [_walk(child, names) for child in value]
    return _text(value, names) if isinstance(value, str) else value


def _text(text: str, names: list[tuple[re.Pattern[str], str]]) -> str:
    text = MAIL.sub("someone@name.example", text)
    text = TARGET.sub(_target, text)
    for pattern, new in names:
        text = pattern.sub(new, text)
    return ADDRESS.sub(lambda match: match[0] if match[0].startswith(LOOPBACK) else "address", text)


def _target(match: re.Match[str]) -> str:
    scheme, _, rest = match[0].partition(":")
    if scheme in ("sha256", "http", "https") or re.fullmatch(r"[\d.]+\S*", rest):
        return match[0]
    return (
        f"{scheme}:elsewhere"
        if scheme in ("s3", "b2", "sftp", "rest", "rclone", "azure", "gs", "swift", "ssh")
        else "elsewhere"
    )
