"""Label selectors: k=v, k==v, k!=v, k, !k, k in (a,b), k notin (a,b), joined by commas."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lab.hetzner.answers import invalid

TERMS = re.compile(r",(?![^(]*\))")
SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^)]*)\)$")
VALUE = re.compile(r"^$|^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
KEY = re.compile(r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")


def matches(selector: str, labels: Mapping[str, str]) -> bool:
    return all(_term(term.strip(), labels) for term in TERMS.split(selector) if term.strip())


def _term(term: str, labels: Mapping[str, str]) -> bool:
    found = SET.match(term)
    if found:
        chosen = {value.strip() for value in found[3].split(",")}
        inside = labels.get(found[1]) in chosen
        return inside if found[2] == "in" else not inside
    if "!=" in term:
        key, value = term.split("!=", 1)
        return labels.get(key.strip()) != value.strip()
    if "=" in term:
        key, value = re.split("==?", term, maxsplit=1)
        return key.strip() in labels and labels[key.strip()] == value.strip()
    if term.startswith("!"):
        return term[1:].strip() not in labels
    return term in labels


def check(labels: object) -> dict[str, str]:
    """The labels of a request, or the API's refusal."""
    if labels is None:
        return {}
    if not isinstance(labels, dict):
        raise invalid("labels", "Not a valid object.")
    for key, value in labels.items():
        if not KEY.match(key) or key.startswith("hetzner.cloud/"):
            raise invalid("labels", f"label key '{key}' is not correctly formatted")
        if not isinstance(value, str) or not VALUE.match(value):
            raise invalid("labels", f"label value '{value}' is not correctly formatted")
    return dict(labels)
