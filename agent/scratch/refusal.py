"""The last look at a scratch project before anything of it is started: it refuses what could reach live data.

Written apart from the code that made the project, so that a fault there is found here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import AgentError
from .model import BRIDGE, CAPABILITIES, KEPT, NETWORK, PREFIX, plain

__all__ = ["check", "faults"]

_TOP = {"name", "services", "networks", "volumes", "secrets", "configs"}
_OURS = {
    "cap_add",
    "configs",
    "depends_on",
    "deploy",
    "dns",
    "logging",
    "network_mode",
    "networks",
    "oom_score_adj",
    "pull_policy",
    "restart",
    "secrets",
    "security_opt",
    "volumes",
    "volumes_from",
}


def check(model: Mapping[str, Any], folder: str) -> None:
    """Raise AgentError kind "unsafe" unless every source lies, links resolved, in the real path ``folder``."""
    for fault in faults(model, folder):
        raise AgentError(
            f"the scratch project {model.get('name')} is not started: {fault}; this is a fault of the drill, "
            "and nothing was touched",
            "unsafe",
        )


def faults(model: Mapping[str, Any], folder: str) -> Iterator[str]:
    """Every reason not to start it."""
    if not str(model.get("name")).startswith(PREFIX):
        yield "it does not have a name of ours"
    for key in set(model) - _TOP:
        yield f"it declares {key}"
    yield from _networks(model)
    for name, volume in (model.get("volumes") or {}).items():
        yield from _volume(name, volume or {}, folder)
    for kind in ("secrets", "configs"):
        for name, file in (model.get(kind) or {}).items():
            if set(file) == {"file"}:
                yield from _outside(f"{kind[:-1]} {name}", file["file"], folder)
            elif set(file) != {"content"} or kind == "secrets":
                yield f"{kind[:-1]} {name} is no file"
    for name, service in (model.get("services") or {}).items():
        yield from _service(name, service, model, folder)


def _networks(model: Mapping[str, Any]) -> Iterator[str]:
    networks = model.get("networks") or {}
    network = networks.get(NETWORK) or {}
    bridge = str((network.get("driver_opts") or {}).get("com.docker.network.bridge.name"))
    if set(networks) != {NETWORK} or set(network) != {"driver", "internal", "enable_ipv6", "driver_opts"}:
        yield "it has another network than the internal one"
    elif network["internal"] is not True or network["driver"] != "bridge" or network["enable_ipv6"]:
        yield "its network is not internal"
    if not bridge.startswith(BRIDGE) or len(bridge) > 15:
        yield "its bridge is not one that the fence knows"


def _volume(name: str, volume: Mapping[str, Any], folder: str) -> Iterator[str]:
    options = volume.get("driver_opts") or {}
    bound = set(options) == {"type", "o", "device"} and (options["type"], options["o"]) == ("none", "bind")
    if set(volume) != {"driver", "driver_opts"} or volume["driver"] != "local" or not bound:
        yield f"volume {name} is not a folder of the copy"
    else:
        yield from _outside(f"volume {name}", options["device"], folder)


def _service(name: str, service: Mapping[str, Any], model: Mapping[str, Any], folder: str) -> Iterator[str]:
    for key in sorted(set(service) - KEPT - _OURS):
        yield f"{name} has {key}"
    if service.get("restart") != "no" or service.get("pull_policy") != "never":
        yield f"{name} may restart or be pulled"
    if not {str(capability) for capability in service.get("cap_add") or ()} <= CAPABILITIES:
        yield f"{name} has capabilities"
    if any(not str(option).startswith("no-new-privileges") for option in service.get("security_opt") or ()):
        yield f"{name} has security_opt"
    if any("container:" in str(entry) for entry in service.get("volumes_from") or ()):
        yield f"{name} has volumes_from"
    yield from _way_out(name, service, model)
    for mount in service.get("volumes") or ():
        yield from _mount(name, mount, model, folder)


def _way_out(name: str, service: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[str]:
    mode = service.get("network_mode")
    if mode is None:
        if set(service.get("networks") or {}) != {NETWORK}:
            yield f"{name} is in another network"
        elif set(service["networks"][NETWORK] or {}) - {"aliases"}:
            yield f"{name} has a fixed address"
    elif mode != "none" and str(mode).removeprefix("service:") not in model["services"]:
        yield f"{name} has network_mode {mode}"


def _mount(name: str, mount: Mapping[str, Any], model: Mapping[str, Any], folder: str) -> Iterator[str]:
    kind, source = mount.get("type"), mount.get("source")
    if kind == "bind":
        if set(mount.get("bind") or {}) - {"create_host_path"}:
            yield f"{name} has options on a bind"
        yield from _outside(name, str(source), folder)
    elif kind == "volume":
        if source is not None and source not in (model.get("volumes") or {}):
            yield f"{name} mounts the volume {source}"
    elif kind != "tmpfs":
        yield f"{name} has a mount of type {kind}"


def _outside(what: str, source: str, folder: str) -> Iterator[str]:
    path = plain(source)
    real, top = os.path.realpath(path), os.path.realpath(folder)
    if not path.startswith("/") or not real.startswith(f"{top}/"):
        yield f"{what} has the source {path}, which is {real if real != path else 'outside the drill folder'}"
