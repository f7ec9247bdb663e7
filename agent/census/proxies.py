"""Which hostnames lead where: Caddy, Traefik, nginx and cloudflared, from the files that are really in use."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from typing import Any

from ..root import Root

__all__ = ["read"]

_HOST = r"[a-z0-9*](?:[a-z0-9.*-]*[a-z0-9])?\.[a-z]{2,}"
_LARGEST = 1 << 20


def read(root: Root, seen: dict[str, Any], accounts: list[dict[str, Any]]) -> dict[str, Any]:
    """{"routes": [{"host", "to", "by", "file"}], "copies": [[paths of differing copies of one configuration]]}."""
    routes, copies = _traefik(seen), []
    for path in _caddyfiles(root, seen):
        routes += [{**route, "by": "caddy", "file": path} for route in _caddy(_text(root, path))]
        others = _others(root, path)
        if others:
            copies.append([path, *others])
    for path in _nginx_files(root, seen):
        routes += [{**route, "by": "nginx", "file": path} for route in _nginx(_text(root, path))]
    for path in _cloudflared_files(root, accounts):
        routes += [{**route, "by": "cloudflared", "file": path} for route in _cloudflared(_text(root, path))]
    return {"routes": routes, "copies": copies}


def _text(root: Root, path: str) -> str:
    try:
        if os.path.getsize(root.at(path)) > _LARGEST:
            return ""
        with open(root.at(path), encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _mounted(root: Root, seen: dict[str, Any], image: str, target: str, pattern: str) -> list[str]:
    """Host paths of a container's configuration below ``target``."""
    found: list[str] = []
    for container in seen.get("containers") or []:
        if not re.search(image, str(container["image"])):
            continue
        for mount in container["mounts"]:
            inside, source = str(mount["destination"]), str(mount["source"] or "")
            if inside.startswith(target) or target.startswith(inside.rstrip("/") + "/"):
                found += (
                    [source]
                    if os.path.isfile(root.at(source))
                    else sorted(glob.glob(root.at(f"{source}/{pattern}")))
                )
    return found


def _caddyfiles(root: Root, seen: dict[str, Any]) -> list[str]:
    native = [path for path in ("/etc/caddy/Caddyfile",) if os.path.exists(root.at(path))]
    return list(dict.fromkeys([*_mounted(root, seen, r"(^|/)caddy", "/etc/caddy", "Caddyfile"), *native]))


def _others(root: Root, path: str) -> list[str]:
    """Files of the same name nearby with other content: one of them is edited and the other one runs (I-29)."""
    folder, name = os.path.split(path)
    mine = hashlib.sha256(_text(root, path).encode()).digest()
    near = glob.glob(root.at(f"{folder}/*/{name}")) + glob.glob(root.at(f"{os.path.dirname(folder)}/{name}"))
    return sorted(other for other in near if hashlib.sha256(_text(root, other).encode()).digest() != mine)


def _caddy(text: str) -> list[dict[str, str]]:
    found, hosts = [], list[str]()
    named: dict[str, list[str]] = {}
    for line in text.splitlines():
        plain = line.split("#")[0].strip()
        matcher = re.match(r"(@[\w-]+)\s+host\s+(.+)", plain)
        if matcher:
            named[matcher[1]] = matcher[2].split()
        elif re.match(r"handle(_path)?\s+@", plain):
            hosts = named.get(plain.split()[1], [])
        elif (
            plain.endswith("{")
            and re.search(_HOST, plain)
            and not plain.startswith(("handle", "reverse_proxy", "@"))
        ):
            hosts = re.findall(_HOST, plain)
        elif plain.startswith("reverse_proxy"):
            words = [word for word in plain.rstrip("{").split()[1:] if word != "{"]
            own = named.get(words[0], []) if words and words[0].startswith("@") else hosts
            target = next((word for word in words if not word.startswith(("@", "/"))), "")
            found += [{"host": host, "to": target} for host in own]
    return found


def _nginx_files(root: Root, seen: dict[str, Any]) -> list[str]:
    native = [
        path
        for pattern in ("sites-enabled/*", "conf.d/*.conf")
        for path in glob.glob(root.at(f"/etc/nginx/{pattern}"))
    ]
    return list(
        dict.fromkeys([*_mounted(root, seen, r"(^|/)nginx", "/etc/nginx/conf.d", "*.conf"), *sorted(native)])
    )


def _nginx(text: str) -> list[dict[str, str]]:
    found = []
    for block in re.split(r"\bserver\s*\{", text)[1:]:
        hosts = [
            h for names in re.findall(r"server_name\s+([^;]+);", block) for h in re.findall(_HOST, names)
        ]
        target = re.search(r"proxy_pass\s+([^;]+);", block)
        found += [{"host": host, "to": target[1] if target else ""} for host in hosts]
    return found


def _traefik(seen: dict[str, Any]) -> list[dict[str, str]]:
    found = []
    for container in seen.get("containers") or []:
        for label, value in container["labels"].items():
            if label.startswith("traefik.http.routers.") and label.endswith(".rule"):
                hosts = [
                    h
                    for inner in re.findall(r"Host\(([^)]*)\)", value)
                    for h in re.findall(r"[`'\"]([^`'\"]+)", inner)
                ]
                found += [
                    {"host": h, "to": container["name"], "by": "traefik", "file": ""}
                    for h in hosts
                    if "." in h
                ]
    return found


def _cloudflared_files(root: Root, accounts: list[dict[str, Any]]) -> list[str]:
    folders = ["/etc/cloudflared", *(f"{account['home']}/.cloudflared" for account in accounts)]
    return [path for folder in folders for path in sorted(glob.glob(root.at(f"{folder}/config.y*ml")))]


def _cloudflared(text: str) -> list[dict[str, str]]:
    pairs = re.findall(
        r"hostname:\s*[\"']?([^\s\"']+)[\"']?\s*\n\s*(?:path:.*\n\s*)?service:\s*[\"']?([^\s\"']+)", text
    )
    return [{"host": host, "to": service} for host, service in pairs]
