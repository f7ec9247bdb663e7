"""The seam to Docker for work on data: which container, a program inside it, stop, start, volumes and images.

Every function asks the ``docker`` program. A question it does not answer raises AgentError (kind "docker");
"there is none" is an answer of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from .. import process
from ..errors import AgentError
from . import execs

__all__ = [
    "Container",
    "Lost",
    "Talk",
    "container_of",
    "containers",
    "exec_argv",
    "image_facts",
    "images_of",
    "input_of",
    "inspect",
    "inspected",
    "mountpoint_of",
    "run_in",
    "running",
    "start",
    "start_argv",
    "stop",
    "stop_argv",
    "talk",
]

ASK = 30.0
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
ONEOFF = "com.docker.compose.oneoff"

_turns: dict[tuple[str, ...], threading.Lock] = {}


class Lost(AgentError):
    """Docker lost a program in a container; what it was to do may or may not be done."""

    def __init__(self) -> None:
        super().__init__(
            "Docker does not say that a program in a container has ended, and it is not there: see `journalctl -u docker`",
            "docker",
        )


@dataclass(frozen=True)
class Container:
    """One container of a Compose project. ``state`` as Docker says it: running, exited, ..."""

    id: str
    name: str
    service: str
    state: str
    image: str
    image_id: str


def containers(project: str, service: str = "") -> list[Container]:
    """The containers of a project (of one service of it), running or not, by service; one-off runs are left out.

    Each is inspected: a state that ``docker ps`` prints can be that of before a stop or start which has returned
    (measured on a busy disk: 26 of 40 times).
    """
    argv = ["ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={PROJECT}={project}"]
    argv += ["--filter", f"label={SERVICE}={service}"] if service else []
    found = [_container(facts) for facts in inspected(_docker(argv).split())]
    return sorted((c for c in found if c is not None), key=lambda c: (c.service, c.name))


def _container(facts: dict[str, Any]) -> Container | None:
    labels = facts["Config"].get("Labels") or {}
    if labels.get(ONEOFF) == "True":
        return None
    return Container(
        facts["Id"],
        facts["Name"].lstrip("/"),
        labels.get(SERVICE) or "",
        facts["State"]["Status"],
        facts["Config"].get("Image") or "",
        facts.get("Image") or "",
    )


def container_of(project: str, service: str) -> str | None:
    """The id of the running container of a Compose service, or None."""
    return next((c.id for c in containers(project, service) if c.state == "running"), None)


def running(project: str) -> list[str]:
    """The Compose services of a project that run now, sorted."""
    return sorted({c.service for c in containers(project) if c.state == "running"})


def inspect(container: str) -> dict[str, Any]:
    """What ``docker container inspect`` says of one container. Raises AgentError when it is gone."""
    found = inspected([container])
    if not found:
        raise AgentError(f"container {container[:12]} is gone", "docker")
    return found[0]


def mountpoint_of(volume: str) -> str | None:
    """Where a named volume lies on this host, or None when there is no such volume."""
    ended = process.run(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume], ASK)
    if not ended.ok and "no such volume" in ended.err.lower():
        return None
    return _said(ended, "volume inspect").strip()


def image_facts(project: str) -> dict[str, dict[str, str]]:
    """Compose service to {"image": reference, "digest": repository digest or "", "id": image id}."""
    return images_of([project])[project]


def images_of(projects: Sequence[str]) -> dict[str, dict[str, dict[str, str]]]:
    """``image_facts`` of several projects, in three questions however many they are."""
    if not projects:
        return {}
    ids = _docker(["ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={PROJECT}"]).split()
    facts = inspected(ids)
    of = {each["Id"]: str((each["Config"].get("Labels") or {}).get(PROJECT)) for each in facts}
    known = [c for c in map(_container, facts) if c is not None and of[c.id] in projects]
    found: dict[str, dict[str, Container]] = {project: {} for project in projects}
    for each in sorted(known, key=lambda c: (c.service, c.name)):
        found[of[each.id]][each.service] = each
    digests = _digests(sorted({c.image_id for c in known if c.image_id}))
    return {
        project: {
            name: {"image": c.image, "digest": digests.get(c.image_id, ""), "id": c.image_id}
            for name, c in services.items()
        }
        for project, services in found.items()
    }


def _digests(ids: Sequence[str]) -> dict[str, str]:
    if not ids:
        return {}
    # An image that was removed under its container makes the status 1; the others are still listed.
    ended = process.run(["docker", "image", "inspect", *ids], ASK)
    if not ended.ok and "no such image" not in ended.err.lower():
        raise AgentError(f"docker image inspect: {ended.why(1)}", "docker")
    images: list[dict[str, Any]] = json.loads(ended.out or "[]")
    return {i["Id"]: sorted(i.get("RepoDigests") or [""])[0].partition("@")[2] for i in images}


def stop_argv(compose: Sequence[str], services: Sequence[str] = (), grace: int | None = None) -> list[str]:
    """Stop services of a project, all when none is named. ``grace``: seconds, None for what each declares."""
    return [*compose, "stop", *(["--timeout", str(grace)] if grace is not None else []), *services]


def start_argv(
    compose: Sequence[str],
    services: Sequence[str] = (),
    wait: bool = False,
    recreate: bool = True,
    needed: bool = False,
) -> list[str]:
    """Start services of a project (all when none is named); named ones without what they depend on, unless ``needed``.

    ``wait``: return when their health checks pass. ``recreate`` False keeps containers as they are. A container that
    is made without what it depends on has another description for Compose, and the next converge makes it anew.
    """
    flags = ["--detach", *(["--no-deps"] if services and not needed else []), *(["--wait"] if wait else [])]
    return [*compose, "up", *flags, *([] if recreate else ["--no-recreate"]), *services]


def stop(
    compose: Sequence[str], services: Sequence[str] = (), timeout: float = 300.0, grace: int | None = None
) -> None:
    """Stop services (none named: the whole project). Raises AgentError with Compose's last words."""
    _compose(stop_argv(compose, services, grace), timeout)


def start(
    compose: Sequence[str],
    services: Sequence[str] = (),
    timeout: float = 600.0,
    wait: bool = False,
    recreate: bool = True,
    needed: bool = False,
) -> None:
    """Start services (none named: the whole project). Raises AgentError with Compose's last words.

    Those of one project one after the other: side by side, both would make its networks.
    """
    with _turns.setdefault(tuple(compose), threading.Lock()):
        _compose(start_argv(compose, services, wait, recreate, needed), timeout)


def _compose(argv: Sequence[str], timeout: float) -> None:
    ended = process.run(argv, timeout)
    if not ended.ok:
        raise AgentError(f"{' '.join(argv)}: {ended.why()}", "docker")


def exec_argv(
    container: str, argv: Sequence[str], user: str = "", interactive: bool = False, mark: str = ""
) -> list[str]:
    """The docker command that runs ``argv`` inside a container.

    ``interactive``: it reads our input. ``mark``: NAME=VALUE for its environment.
    """
    flags = [*(["--interactive"] if interactive else []), *(["--user", user] if user else [])]
    return ["docker", "exec", *flags, *(["--env", mark] if mark else []), container, *argv]


def run_in(
    container: str,
    argv: Sequence[str],
    timeout: float,
    *,
    user: str = "",
    feed: IO[bytes] | None = None,
    into: IO[bytes] | None = None,
    watched: bool = False,
) -> process.Finished:
    """Run a program inside a container to its end (process.run).

    When the time is up only the docker client ends; a program that may hang has its own limit inside. ``watched``: the
    client is given up as ``lost`` when the program is not there any more (agent/data/execs.py); not for programs that
    empty their environment.
    """
    if watched:
        return _watched(container, argv, timeout, user, feed, into)
    return process.run(exec_argv(container, argv, user, feed is not None), timeout, feed=feed, into=into)


def _watched(
    container: str,
    argv: Sequence[str],
    timeout: float,
    user: str,
    feed: IO[bytes] | None,
    into: IO[bytes] | None,
) -> process.Finished:
    mark = _marked(container)
    whole = exec_argv(container, argv, user, feed is not None, mark.argument)
    return process.run(whole, timeout, feed=feed, into=into, lost=mark.lost, every=execs.LOOK)


def _marked(container: str) -> execs.Mark:
    def pid() -> int | None:
        try:
            facts = inspected([container])
        except AgentError:
            return 0  # nobody knows: no process of any /proc has this number
        return int(facts[0]["State"]["Pid"]) or None if facts else None

    return execs.Mark(pid)


def input_of(text: str) -> IO[bytes]:
    """``text`` as an open file for ``feed``, in memory only: this is the way of secrets to a program.

    Surrogates in it become the bytes they stand for.
    """
    stream = os.fdopen(os.memfd_create("input"), "w+b") if hasattr(os, "memfd_create") else None
    if stream is None:
        import tempfile  # only where the kernel has no memory files

        stream = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    stream.write(text.encode(errors="surrogateescape"))
    stream.seek(0)
    return stream


class Talk:
    """A program inside a container that we write lines to and read lines from."""

    def __init__(self, to: IO[bytes], back: IO[bytes], ended: list[process.Finished]) -> None:
        self._to, self._back, self._ended = to, back, ended

    def tell(self, text: str) -> None:
        """Send text. A program that is gone shows when its answer is read."""
        with contextlib.suppress(BrokenPipeError):
            self._to.write(text.encode())
            self._to.flush()

    def line(self) -> str | None:
        """The next line without its end, or None when the program has ended (or its time was up).

        Raises Lost when Docker has lost it.
        """
        got = self._back.readline()
        if not got and self._ended and self._ended[0].lost:
            raise Lost()
        return got.decode("utf-8", "replace").rstrip("\n") if got else None

    def close(self) -> None:
        """No more input: the program finishes."""
        with contextlib.suppress(BrokenPipeError):
            self._to.close()

    @property
    def ended(self) -> process.Finished | None:
        """How it ended; None while it runs."""
        return self._ended[0] if self._ended else None


@contextlib.contextmanager
def talk(container: str, argv: Sequence[str], timeout: float, user: str = "") -> Iterator[Talk]:
    """A conversation with a program in a container; it ends with the block, or with this process."""
    ended: list[process.Finished] = []
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()

    def run() -> None:
        with open(to_read, "rb") as feed, open(back_write, "wb") as into:
            ended.append(_watched(container, argv, timeout, user, feed, into))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with open(back_read, "rb") as back:
        session = Talk(open(to_write, "wb"), back, ended)  # noqa: SIM115 (closed by close)
        try:
            yield session
        finally:
            session.close()
            for _ in back:  # whatever it still says, so that it can end
                pass
            thread.join(timeout)


def _docker(arguments: Sequence[str]) -> str:
    return _said(process.run(["docker", *arguments], ASK), arguments[0])


def _said(ended: process.Finished, what: str) -> str:
    if not ended.ok:
        raise AgentError(f"docker {what}: {ended.why(1)}", "docker")
    return ended.out


def inspected(ids: Sequence[str]) -> list[dict[str, Any]]:
    """What ``docker container inspect`` says of containers, without those that are gone. Raises AgentError."""
    if not ids:
        return []
    ended = process.run(["docker", "container", "inspect", *ids], ASK)
    # A container that ended between two calls makes the status 1; the others are still listed.
    gone = all("no such container" in line.lower() for line in ended.err.splitlines() if line.strip())
    if not ended.ok and not gone:
        raise AgentError(f"docker inspect: {ended.why(1)}", "docker")
    found: list[dict[str, Any]] = json.loads(ended.out or "[]")
    return found
