"""Random values, and values that are none: placeholders and words everybody tries first."""

from __future__ import annotations

import base64
import re
import secrets
import string
from itertools import pairwise

ALPHABET = string.ascii_letters + string.digits
SHORTEST = {"alnum32": 32, "hex32": 32, "hex64": 64, "base64-32": 43, "none": 8}

# Names of things that are no secrets by themselves: short or common values are fine there.
PLAIN_NAME = re.compile(
    r"(USER|USERNAME|LOGIN|EMAIL|MAIL|FROM|HOST|HOSTNAME|DOMAIN|URL|URI|PORT|NAME|REGION|BUCKET|_ID)$",
    re.IGNORECASE,
)

# Words left for somebody to fill in; they mean nothing was set, whatever the name is.
UNFILLED = (
    (re.compile(r"change[-_ ]?(me|this|it)", re.IGNORECASE), "says that it must be changed"),
    (
        re.compile(r"replace[-_ ]?(me|this|with)|fill[-_ ]?(me|in)\b", re.IGNORECASE),
        "says that it must be replaced",
    ),
    (
        re.compile(r"^<[^>]*>$|^\[[a-z _-]+\]$|^\{\{.*\}\}$|^\$\{.*\}$", re.IGNORECASE),
        "is a blank to be filled in",
    ),
    (re.compile(r"^x{3,}$|^\*{3,}$|^\.{3,}$|^_{3,}$|^-{3,}$", re.IGNORECASE), "is a blank to be filled in"),
    (re.compile(r"^(todo|fixme|tbd|placeholder|dummy)\b", re.IGNORECASE), "is a note, not a value"),
    (
        re.compile(r"^(your|my|some|the)[-_ ].*(password|secret|token|key|here)\b", re.IGNORECASE),
        "describes the value in its place",
    ),
    (
        re.compile(r"^(insert|enter|put|set)[-_ ].*(here|password|secret|token|key)\b", re.IGNORECASE),
        "describes the value in its place",
    ),
)

# What is tried first: a common word, with digits or signs after it or not.
COMMON = re.compile(
    r"^(pass(wor[dt])?|passwd|pwd|secret|admin(istrator)?|root|user|guest|test(ing)?|demo|example|default|"
    r"sample|letmein|qwert[yz]?|welcome|master|monkey|abc|foo|bar|foobar|hunter|nextcloud|postgres(ql)?|"
    r"mysql|mariadb|redis|vaultwarden|miniflux|token|key|apikey|none|null|nil|false|true|string)"
    r"[-_ ]?(password|secret|token|key|pass)?[\d!@#$.]*$",
    re.IGNORECASE,
)


def generate(kind: str) -> str:
    """A random value: 32 letters and digits, 32 or 64 hexadecimal digits, or 32 bytes in base64."""
    if kind == "alnum32":
        return "".join(secrets.choice(ALPHABET) for _ in range(32))
    if kind in ("hex32", "hex64"):
        return secrets.token_hex(int(kind[3:]) // 2)
    if kind == "base64-32":
        return base64.b64encode(secrets.token_bytes(32)).decode()
    raise ValueError(f"{kind!r} is not a kind of random value")


def weakness(name: str, value: str, kind: str = "none", service: str = "") -> str:
    """Why a value is no secret, as the end of a sentence; "" when it is one. Never quotes the value."""
    text = value.strip()
    for pattern, why in UNFILLED:
        if pattern.search(text):
            return why
    if PLAIN_NAME.search(name):
        return ""
    return _common(name, text, service) or _short(text, kind)


def _common(name: str, text: str, service: str) -> str:
    if COMMON.match(text):
        return "is a word that is tried first"
    if text.lower() in {name.lower(), service.lower()} and text:
        return "is only its own name"
    if len(set(text)) <= 2:
        return "repeats one or two characters"
    if len(text) < 20 and _is_run(text):
        return "only counts up or down"
    return ""


def _is_run(text: str) -> bool:
    steps = {ord(second) - ord(first) for first, second in pairwise(text)}
    return steps in ({1}, {-1}) or text in ("1234567890", "123456789")


def _short(text: str, kind: str) -> str:
    least = SHORTEST.get(kind, SHORTEST["none"])
    if kind != "none":
        # An owner's own value in place of a generated one need not have its exact length.
        least = min(least, 12)
    return f"has {len(text)} characters and needs {least}" if len(text) < least else ""
