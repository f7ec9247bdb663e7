"""Tells the owner that a unit failed: where they asked to be told, and in the journal.

Request: {"words": [UNIT]}. Reply: {"told": where or null}. The address is the credential ``settings.alarm`` names; a
Mattermost or Slack webhook gets JSON, everything else (ntfy, a plain hook) the text.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from . import process
from .data import credentials, ledger
from .data import plan as plans
from .errors import AgentError
from .root import Root

__all__ = ["body", "run"]

_TIMEOUT = 20
_TEXT_LIMIT = 1500


def run(request: dict[str, Any], root: Root) -> dict[str, Any]:
    """The verb."""
    unit = (request.get("words") or ["an understudy unit"])[0]
    plan = plans.load(root)
    return tell(root, plan, f"{unit} failed. {_last_words(unit)}", unit)


def tell(root: Root, plan: plans.Plan, words: str, unit: str = "") -> dict[str, Any]:
    """Say something to the owner, this host's name before it. Raises AgentError when it cannot be delivered."""
    text = f"{plan.host}: {words}".strip()[:_TEXT_LIMIT]
    name = plan.settings.get("alarm")
    if not name:
        ledger.add(root, "alarm", unit=unit, text=text, told=None)
        return {"told": None, "text": text}
    with open(credentials.path(root, name), encoding="utf-8") as stream:
        address = stream.read().strip()
    try:
        _post(address, text)
    except (OSError, ValueError, urllib.error.URLError) as error:
        # The address may hold a token, so it is not in the sentence.
        reason = getattr(error, "reason", None) or type(error).__name__
        ledger.add(root, "alarm", unit=unit, text=text, ok=False, error=f"not delivered: {reason}")
        raise AgentError(f"{text[:200]} - and the alarm could not be delivered: {reason}", "io") from None
    ledger.add(root, "alarm", unit=unit, text=text, told="alarm-url")
    return {"told": "alarm-url", "text": text}


def body(address: str, text: str) -> tuple[bytes, str]:
    """What is posted and its content type."""
    if "/hooks/" in address or "hooks.slack.com" in address:
        return json.dumps({"text": text}).encode(), "application/json"
    return text.encode(), "text/plain; charset=utf-8"


def _post(address: str, text: str) -> None:
    if not address.startswith(("http://", "https://")):
        raise ValueError("not a web address")
    content, kind = body(address, text)
    headers = {"Content-Type": kind, "User-Agent": "understudy"}
    asked = urllib.request.Request(address, content, headers)  # noqa: S310  (checked above)
    with urllib.request.urlopen(asked, timeout=_TIMEOUT) as answer:  # noqa: S310
        answer.read(1024)


def _last_words(unit: str) -> str:
    ended = process.run(["journalctl", "--unit", unit, "--lines", "3", "--output", "cat", "--no-pager"], 20)
    lines = [line.removeprefix("understudy: ") for line in ended.out.splitlines() if line.strip()]
    return " / ".join(line for line in lines if not line.startswith(("{", "Failed to start")))
