"""Finds secrets that stand in clear in the files of a project."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..faults import Fault

WAIVER = "not a secret"
LARGEST = 1_000_000
SKIPPED = {".git", ".venv", "node_modules", "__pycache__"}

TOKENS = (
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")),
    ("an age key", re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]{20,}")),
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{40,}\b")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    (
        "a webhook address",
        re.compile(
            r"hooks\.slack\.com/services/T\w+/B\w+/\w+|discord(?:app)?\.com/api/webhooks/\d+/[\w-]{20,}"
        ),
    ),
    ("a Google API key", re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("a Stripe key", re.compile(r"\b[rs]k_live_[0-9A-Za-z]{20,}")),
    ("an API key", re.compile(r"\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{32,}")),
    ("a Telegram bot token", re.compile(r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")),
    ("a tunnel token", re.compile(r"\beyJhIjoi[A-Za-z0-9_=-]{60,}")),
    (
        "a password in an address",
        re.compile(r"[a-z][a-z0-9+.-]*://[^\s:/@\"'${}]*:[^\s@/${}\"'%<>]{3,}@[\w\[]"),
    ),
)

NAMES_OF_SECRETS = (
    r"[\w.-]*(?:password|passwd|passphrase|requirepass|secret|token|api[_-]?key|private[_-]?key|"
    r"secret[_-]?key|access[_-]?key|encryption[_-]?key|credential|webhook(?:[_-]?url)?)|salt[a-z]*"
)
ASSIGNMENT = re.compile(
    rf"(?<![\w$])(?<!\$\{{)(?P<name>{NAMES_OF_SECRETS})[\"']?\s*(?P<sign>[:=]|\s(?=[^\s:=]))\s*"
    r"(?P<value>\"[^\"]*\"|'[^']*'|[^\s,}\"'#][^\s,}\"']*)",
    re.IGNORECASE,
)
DEFAULT = re.compile(rf"\$\{{(?P<name>{NAMES_OF_SECRETS}):?-(?P<value>[^}}$]+)\}}", re.IGNORECASE)
SETTINGS = {
    ".yaml",
    ".yml",
    ".env",
    ".toml",
    ".ini",
    ".conf",
    ".json",
    ".cfg",
    ".service",
    ".j2",
    ".properties",
}
SETTINGS_FILES = {".env", "Dockerfile", "Caddyfile"}
NO_VALUE = re.compile(r"^(true|false|yes|no|on|off|null|none|nil|~|\d{1,3})$", re.IGNORECASE)


def scan_tree(paths: Iterable[Path]) -> list[Fault]:
    """Secrets in clear: keys and tokens by their shape, passwords by the name they are given to.

    A line with ``# not a secret`` is left out. ``.env.example`` may hold dummy values, but no real token.
    """
    return [fault for path in paths for file in _files(path) for fault in _scan(file)]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        for child in sorted(path.iterdir()):
            if child.name not in SKIPPED and not child.is_symlink():
                yield from _files(child)


def _scan(path: Path) -> Iterator[Fault]:
    try:
        if path.stat().st_size > LARGEST:
            return
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if WAIVER not in line:
            yield from _scan_line(path, number, line)


def _scan_line(path: Path, number: int, line: str) -> Iterator[Fault]:
    for what, pattern in TOKENS:
        if pattern.search(line):
            fix = "move it to secrets/ and revoke the old one"
            yield Fault("error", path, number, "", f"{what} stands here in clear", fix)
            return
    for name in dict.fromkeys(found.lstrip("-.") for found in _assigned(path, line)):
        fix = "move it to secrets/ (docs/secrets.md), or end the line with `# not a secret`"
        yield Fault("error", path, number, name, "a secret stands here in clear", fix)


def _assigned(path: Path, line: str) -> Iterator[str]:
    """Names on this line that a literal value is given to."""
    is_settings = path.suffix in SETTINGS or path.name in SETTINGS_FILES
    if path.name == ".env.example" or line.lstrip().startswith(("#", ";", "//")):
        return
    yield from (found["name"] for found in DEFAULT.finditer(line))
    for found in ASSIGNMENT.finditer(line):
        # Elsewhere than in settings only a quoted text can be a value: the rest is code and prose.
        if (is_settings or found["value"][0] in "\"'") and _assigns(found) and _is_literal(found["value"]):
            yield found["name"]


def _assigns(found: re.Match[str]) -> bool:
    """True for NAME=value, for NAME: value where a key can stand, and for redis' `requirepass value`."""
    sign = found["sign"].strip()
    if sign == ":":
        before = found.string[: found.start()].rstrip()
        return not before or before[-1] in "-{,[(\"'"
    return sign == "=" or found["name"].lower().endswith("requirepass")


def _is_literal(value: str) -> bool:
    text = value.strip("\"'")
    if not text or NO_VALUE.match(text):
        return False
    return text[0] not in "$/{[%|>&*!" and "{{" not in text and "${" not in text
