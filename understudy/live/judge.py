"""From a census to an audit's report. Pure: no host is contacted here, and nothing secret is in a census."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .. import recipe_book
from ..images import parse
from . import copies
from .copies import Use
from .report import App, Job, Place, Report, Running

Census = Mapping[str, Any]
# What a container is shown of the host itself: nobody's data.
SYSTEM = re.compile(
    r"^/$|^/(proc|sys|dev|run|var/run|tmp|lib/modules|usr|boot)(/|$)"
    r"|^/etc/(localtime|timezone|passwd|group|ssl|os-release|machine-id|hosts|resolv\.conf)(/|$)|docker\.sock$"
)
SERVER_DATA = {"postgres": "/var/lib/postgresql", "mariadb": "/var/lib/mysql"}
INTERNAL = {"postgres", "template0", "template1", "mysql", "information_schema", "performance_schema", "sys"}


def judge(census: Census, name: str, at: str) -> Report:
    """The whole report of one host."""
    machine = part(census, "machine") or {}
    system = machine.get("os") or {}
    report = Report(
        name, f"{system.get('id', '?')} {system.get('version_id', '')} {system.get('arch', '')}".strip(), at
    )
    report.unread = unread(census)
    people = machine.get("people") or []
    jobs = part(census, "jobs") or []
    known = copies.uses(jobs, people)
    report.jobs = list(_jobs(jobs, people))
    report.apps = [*_projects(census, known), *_single(census, known), *_units(census, known)]
    report.routes = (part(census, "routes") or {}).get("routes") or []
    report.disks = [{"path": path, **space} for path, space in (machine.get("disks") or {}).items()]
    report.warnings = list(_warnings(census, report))
    report.commands, report.seconds = int(census.get("commands", 0)), float(census.get("seconds", 0))
    report.headline = headline(report)
    return report


def part(census: Census, name: str) -> Any:
    """A part of the census, None when the host could not read it (``unread`` says so)."""
    value = census.get(name)
    return None if isinstance(value, Mapping) and set(value) == {"unreadable"} else value


def unread(census: Census) -> list[str]:
    """What could not be read: a sentence each. It is never "nothing there"."""
    found = [
        f"{name}: {value['unreadable']}"
        for name, value in census.items()
        if part(census, name) is None and value
    ]
    for path, size in (part(census, "sizes") or {}).items():
        if "error" in size and "no such" not in size["error"]:
            found.append(f"{path}: {size['error']}")
    for container, server in (part(census, "databases") or {}).items():
        if "error" in server:
            found.append(f"the databases of {container}: {server['error']}")
    if not census.get("privileged", True):
        found.append("this user is not root: what only root may read was not seen")
    return found


def _docker(census: Census) -> Mapping[str, Any]:
    return part(census, "docker") or {}


def _jobs(jobs: Iterable[Mapping[str, Any]], people: Iterable[Mapping[str, Any]]) -> Iterator[Job]:
    uids = {person["name"]: person["uid"] for person in people}
    for job in jobs:
        tools = list(dict.fromkeys(use["tool"] for use in job["uses"]))
        to = list(dict.fromkeys(target for use in job["uses"] for target in use["to"]))
        broken = copies.broken(job, uids.get(job["owner"]))
        if tools or broken:
            does = ", ".join(tools) + (f" to {', '.join(to)}" if to else "")
            yield Job(copies.name_of(job), job["owner"], job["when"], does or "nothing", broken)


def _projects(census: Census, known: list[Use]) -> Iterator[App]:
    containers = _docker(census).get("containers") or []
    for name, project in sorted((part(census, "projects") or {}).items()):
        own = [c for c in containers if c["project"] == name and not c["oneoff"]]
        app = App("project", name, project["folder"], [file["path"] for file in project["files"]])
        app.running = [_running(census, c, project["hashes"]) for c in own]
        app.places = _places(census, own, known)
        app.notes = list(_file_notes(project))
        app.described = bool(project["git"]) or _all_kept(census, app.files, known)
        yield app


def _file_notes(project: Mapping[str, Any]) -> Iterator[str]:
    for file in project["files"]:
        if "error" in file:
            yield f"its file {file['path']} cannot be read: {file['error']}"
    if "error" in project["hashes"]:
        yield f"Compose does not accept its files now: {project['hashes']['error']}"
    if not project["files"]:
        yield "its containers name no file"


def _all_kept(census: Census, paths: list[str], known: list[Use]) -> bool:
    config = set((part(census, "plan") or {}).get("config") or [])
    return bool(paths) and all(
        path in config or copies.grade(path, (), False, known)[0] == "kept" for path in paths
    )


def _single(census: Census, known: list[Use]) -> Iterator[App]:
    for container in _docker(census).get("containers") or []:
        if not container["project"]:
            app = App("container", container["name"])
            app.running = [_running(census, container, {})]
            app.places = _places(census, [container], known)
            app.notes = ["started by `docker run`: no file says how"]
            yield app


def _running(census: Census, container: Mapping[str, Any], hashes: Mapping[str, str]) -> Running:
    image = (_docker(census).get("images") or {}).get(container["image_id"]) or {}
    wanted = parse(str(container["image"])).name
    digests = [d for d in image.get("digests") or [] if parse(d).name == wanted] or image.get("digests") or []
    digest = parse(digests[0]).digest if digests else f"{container['image_id']} (only on this machine)"
    note = ""
    if container["service"] and "error" not in hashes:
        hash_now = hashes.get(container["service"])
        if hash_now is None:
            note = "no longer in its file"
        elif hash_now != container["config_hash"]:
            note = "its file was changed since it was started"
    return Running(
        container["name"],
        str(container["image"]),
        digest,
        str(image.get("version") or ""),
        str(container["state"]),
        note,
    )


def _places(census: Census, containers: list[Mapping[str, Any]], known: list[Use]) -> list[Place]:
    found: dict[str, Place] = {}
    for container in containers:
        for mount in container["mounts"]:
            place = _place(census, container, mount, known)
            if place is not None:
                place = found.setdefault(place.what, place)
                place.users = sorted({*place.users, container["name"]})
        for place in _databases(census, container, known):
            found[place.what] = place
    return list(found.values())


def _place(
    census: Census, container: Mapping[str, Any], mount: Mapping[str, Any], known: list[Use]
) -> Place | None:
    if mount["type"] not in ("bind", "volume") or SYSTEM.search(str(mount["source"])):
        return None
    volumes = {volume["name"]: volume for volume in _docker(census).get("volumes") or []}
    volume = volumes.get(mount["name"]) or {}
    path = str(volume.get("path") or mount["source"])
    size = (part(census, "sizes") or {}).get(path) or {}
    kind = (
        "folder" if mount["type"] == "bind" else "anonymous volume" if volume.get("anonymous") else "volume"
    )
    place = Place(
        mount["name"] or path, kind, size.get("bytes"), [container["name"]], size.get("sqlite") or []
    )
    place.complete = bool(size.get("complete"))
    if size.get("single"):
        place.kind = "file"
    if size.get("files") == 0 or _is_cache(container, mount) or _dumped(census, container, mount):
        place.grade, place.why = (
            "cache",
            "empty" if size.get("files") == 0 else "made anew by its application",
        )
        if _dumped(census, container, mount):
            place.why = "a server's own files: its databases are judged one by one"
        return place
    place.grade, place.why = _ours(census, mount["type"], mount["name"] or path) or copies.grade(
        path, place.users, bool(place.sqlite), known
    )
    return place


def _ours(census: Census, kind: str, source: str) -> tuple[Any, str] | None:
    plan = part(census, "plan") or {}
    for place in plan.get("places") or []:
        if (
            place["kind"] == kind
            and place["source"] == source
            and place["class"] in ("keep", "shared", "media")
        ):
            return "kept", f"Understudy, to {', '.join(plan['repositories'])}"
    return None


def _is_cache(container: Mapping[str, Any], mount: Mapping[str, Any]) -> bool:
    recipe = recipe_book.for_image(str(container["image"]))
    rules = recipe.data if recipe else {}
    rule = rules.get(f"{{self}}:{str(mount['destination']).rstrip('/')}")
    return rule is not None and rule.class_ in ("cache", "none")


def _dumped(census: Census, container: Mapping[str, Any], mount: Mapping[str, Any]) -> bool:
    server = (part(census, "databases") or {}).get(container["name"]) or {}
    home = SERVER_DATA.get(server.get("kind", ""))
    return bool(home and server.get("databases") and str(mount["destination"]).startswith(home))


def _databases(census: Census, container: Mapping[str, Any], known: list[Use]) -> Iterator[Place]:
    server = (part(census, "databases") or {}).get(container["name"]) or {}
    named = (part(census, "plan") or {}).get("databases") or []
    for name, size in (server.get("databases") or {}).items():
        if name in INTERNAL:
            continue
        place = Place(f"{container['name']}/{name}", "database", size, [container["name"]])
        ours = [
            d for d in named
            if (d["project"], d["container"]) == (container["project"], container["service"]) and d["database"] in ("", name)
        ]  # fmt: skip
        place.grade, place.why = ("kept", "Understudy") if ours else copies.grade_database(name, known)
        yield place


def _units(census: Census, known: list[Use]) -> Iterator[App]:
    units = part(census, "units") or {}
    sizes = part(census, "sizes") or {}
    for unit in units.get("system") or []:
        runs = unit["active"] in ("active", "activating", "failed") or unit["enabled"] == "enabled"
        if not unit["name"].endswith(".service") or unit["oneshot"] or not runs:
            continue
        app = App("unit", unit["name"], unit["folders"][0] if unit["folders"] else "", [unit["file"]])
        state = (
            f"{unit['active']}, restarted {unit['restarts']} times" if unit["restarts"] else unit["active"]
        )
        app.running = [Running(unit["name"], unit["program"], state=state)]
        for path in unit["folders"]:
            size = sizes.get(path) or {}
            place = Place(path, "folder", size.get("bytes"), [unit["name"]], size.get("sqlite") or [])
            place.complete = bool(size.get("complete"))
            place.grade, place.why = copies.grade(path, (), bool(place.sqlite), known)
            app.places.append(place)
        app.described = _all_kept(census, app.files, known)
        yield app


def _warnings(census: Census, report: Report) -> Iterator[str]:
    for paths in (part(census, "routes") or {}).get("copies") or []:
        yield f"{paths[0]} is the one that runs; {', '.join(paths[1:])} differs and does nothing"
    for place in report.places:
        if place.kind == "anonymous volume" and place.bytes and place.grade != "cache":
            yield f"{', '.join(place.users)} keeps data in an anonymous volume: its next new container starts without it"
    used = {m["name"] for c in _docker(census).get("containers") or [] for m in c["mounts"] if m["name"]}
    for volume in _docker(census).get("volumes") or []:
        size = ((part(census, "sizes") or {}).get(volume["path"]) or {}).get("bytes") or 0
        if volume["name"] not in used and size:
            yield f"the volume {volume['name']} ({human(size)}) is used by no container: nothing is known about it"
    for personal in (part(census, "units") or {}).get("personal") or []:
        yield f"{personal} is a unit of one user: look at it yourself"
    for job in report.jobs:
        if job.broken:
            yield f"{job.name} does nothing: {job.broken}"


def headline(report: Report) -> str:
    """The first sentence: what would be lost if this machine died now."""
    lost, weak, kept = report.of("lost"), report.of("weak"), report.of("kept")
    if not report.apps and report.unread:
        return f"What would be lost cannot be told: {report.unread[0]}."
    if not lost and not weak and not report.undescribed:
        told = f"{len(kept)} places of data are copied elsewhere by jobs that exist; whether they restore was not tried"
        return f"If this machine died now, nothing that was found would be lost: {told}."
    parts = []
    if lost:
        total = sum(place.bytes or 0 for place in lost)
        names = ", ".join(f"{place.what} ({human(place.bytes)})" for place in lost[:3])
        parts.append(
            f"{len(lost)} of {len(lost) + len(weak) + len(kept)} places of data ({human(total)}), the biggest {names}"
        )
    if weak:
        parts.append(f"perhaps {len(weak)} more, whose copies may not restore")
    if report.undescribed:
        parts.append(f"how {len(report.undescribed)} of {len(report.apps)} applications are set up")
    return f"If this machine died now, you would lose {'; '.join(parts)}."


def human(size: int | None) -> str:
    """Bytes for people."""
    if size is None:
        return "size unknown"
    value, units = float(size), ("B", "kB", "MB", "GB", "TB")
    for unit in units:
        if value < 1000 or unit == units[-1]:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return ""
