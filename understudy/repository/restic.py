"""The control machine's one seam to restic.

Repository, password and keys go to restic by files in a private folder (0700) that is gone afterwards; nothing
secret stands in an argument or in the environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import UnderstudyError
from . import identity

__all__ = ["AdminRepository", "ResticError", "Result", "Session", "opened", "usable"]

OLDEST = (0, 17)
KINDS = {
    10: "no-repository",
    11: "locked",
    12: "password",
    3: "incomplete",
    124: "interrupted",
    130: "interrupted",
}
_GRACE = 20.0
_PASSED_ON = (
    "HOME",
    "PATH",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
)
_SENTENCES = {
    "no-repository": "there is no repository at this address (an emptied store looks the same: do not create it anew before looking)",
    "locked": "another restic process holds it; `understudy repo check` says which",
    "password": "the password does not open it",
    "incomplete": "restic could do only a part of it",
    "interrupted": "it was stopped before its end",
}

Message = dict[str, Any]


@dataclass(frozen=True)
class AdminRepository:
    """One move group's restic repository with the keys of the control machine, values in memory.

    ``url`` is restic's address of this very group. ``aws`` is the text of an AWS credentials file (profile
    default), ``rest`` is ``user:password`` of a rest-server, ``ssh_key`` and ``known_hosts`` are file contents,
    ``options`` are restic's ``-o key=value``.
    """

    name: str
    group: str
    url: str
    password: str = field(repr=False)
    aws: str | None = field(default=None, repr=False)
    ssh_key: str | None = field(default=None, repr=False)
    known_hosts: str | None = field(default=None, repr=False)
    rest: str | None = field(default=None, repr=False)
    options: tuple[str, ...] = ()
    cache_dir: str | None = None

    @property
    def label(self) -> str:
        """How sentences name it."""
        return f"{self.name}/{self.group}"


class ResticError(UnderstudyError):
    """restic failed. ``kind``: no-repository, locked, password, incomplete, interrupted, missing, old or failed."""

    def __init__(self, sentence: str, kind: str = "failed", code: int = 1) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.code = code


@dataclass
class Result:
    """What restic said. ``messages`` are the JSON objects of its output, ``lines`` everything else of it."""

    code: int
    messages: list[Message] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    value: Any = None

    @property
    def summary(self) -> Message:
        """The last message of type summary, {} when there is none."""
        return next((m for m in reversed(self.messages) if m.get("message_type") == "summary"), {})


def address(repository: AdminRepository) -> str:
    """What stands in the repository file: the URL, with the user of a rest-server put in."""
    if repository.rest is None:
        return repository.url
    match = re.fullmatch(r"rest:(https?://)(?:[^/@]*@)?(.*)", repository.url)
    if match is None:
        raise ResticError(f"{repository.label}: `rest` credentials need a rest:http(s):// address")
    return f"rest:{match[1]}{repository.rest.strip()}@{match[2]}"


def files(repository: AdminRepository) -> dict[str, str]:
    """The private files of a session: name to content."""
    given = {
        "repository": address(repository),
        "password": repository.password,
        "aws": repository.aws,
        "ssh_key": repository.ssh_key and repository.ssh_key.rstrip("\n") + "\n",
        "known_hosts": repository.known_hosts,
    }
    return {name: content for name, content in given.items() if content is not None}


def options(repository: AdminRepository, folder: str) -> list[str]:
    """The ``-o`` arguments; those that hold paths of the private folder come from what keys there are."""
    ssh = ["-F none", "-o BatchMode=yes"]
    if repository.ssh_key is not None:
        ssh.append(f"-i {folder}/ssh_key -o IdentitiesOnly=yes")
    if repository.known_hosts is not None:
        ssh.append(f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes")
    argv = [part for option in repository.options for part in ("-o", option.replace("{folder}", folder))]
    if repository.url.startswith("sftp:"):
        argv += ["-o", f"sftp.args={' '.join(ssh)}"]
    return argv


def environment(repository: AdminRepository, folder: str) -> dict[str, str]:
    """restic's whole environment: nothing of the login's keys leaks in, nothing secret stands in it."""
    given = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    given |= {
        "LC_ALL": "C.UTF-8",
        "RESTIC_REPOSITORY_FILE": f"{folder}/repository",
        "RESTIC_PASSWORD_FILE": f"{folder}/password",
        "RESTIC_PROGRESS_FPS": "5",
    }
    if repository.aws is not None:
        given["AWS_SHARED_CREDENTIALS_FILE"] = f"{folder}/aws"
    if repository.cache_dir is not None:
        given["RESTIC_CACHE_DIR"] = repository.cache_dir
    return given


@functools.lru_cache(maxsize=4)
def usable(program: str = "restic") -> str:
    """The path of a restic that is new enough. Raises ResticError."""
    path = shutil.which(program)
    if path is None:
        raise ResticError("restic is not installed on this machine: install 0.17 or newer", "missing")
    said = subprocess.run([path, "version"], capture_output=True, text=True, timeout=30, check=False).stdout
    match = re.match(r"restic (\d+)\.(\d+)", said)
    if match is None or (int(match[1]), int(match[2])) < OLDEST:
        have = said.split(" compiled")[0].strip() or path
        raise ResticError(f"{have} is too old: install restic 0.17 or newer on this machine", "old")
    return path


class Session:
    """A repository opened for a few commands. Made by ``opened``."""

    def __init__(self, repository: AdminRepository, folder: str, program: str, held: int) -> None:
        self.repository = repository
        self.folder = folder
        self.program = program
        self._held = held

    def argv(self, arguments: Sequence[str], *, lock: bool = False, alone: bool = False) -> list[str]:
        """The full command line.

        ``lock``: the command leaves a lock in the repository, so it runs under this control machine's own host
        name; ``alone``: in a process namespace of its own (see ``identity``). All others use ``--no-lock``.
        """
        before = identity.wrapper(alone) if lock or alone else []
        after = [] if lock or alone else ["--no-lock"]
        return [
            *before,
            self.program,
            *options(self.repository, self.folder),
            *arguments[:1],
            *after,
            *arguments[1:],
        ]

    def run(
        self,
        arguments: Sequence[str],
        timeout: float,
        *,
        lock: bool = False,
        alone: bool = False,
        feed: bytes | None = None,
        cwd: str | None = None,
        on_message: Callable[[Message], None] | None = None,
        on_start: Callable[[int], None] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Result:
        """Run restic to its end. ``timeout`` in seconds: then it is interrupted (it removes its lock), later killed.

        ``on_message`` hears every JSON message, ``on_start`` the process id. Raises ResticError for any code but 0.
        """
        argv = self.argv(arguments, lock=lock, alone=alone)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment(self.repository, self.folder),
            pass_fds=(self._held, *pass_fds),
            start_new_session=True,
        )
        if on_start is not None:
            on_start(process.pid)
        result, late = _follow(process, timeout, feed, on_message)
        if late:
            result.code = 124
        if result.code != 0:
            raise self._error(arguments[0], result, timeout)
        return result

    def add_password(self, password: str, timeout: float = 300) -> None:
        """Let another password open the repository too. Raises ResticError."""
        path = os.path.join(self.folder, "new-password")
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as stream:
            stream.write(password)
        try:
            self.run(["key", "add", "--new-password-file", path], timeout, lock=True)
        finally:
            os.unlink(path)

    def json(self, arguments: Sequence[str], timeout: float) -> Any:
        """The one JSON value that a reading command prints. Raises ResticError, also when it is none."""
        result = self.run([*arguments[:1], "--json", *arguments[1:]], timeout)
        if result.value is None:
            raise ResticError(
                f"{self.repository.label}: restic {arguments[0]} answered with something unreadable"
            )
        return result.value

    def _error(self, verb: str, result: Result, timeout: float) -> ResticError:
        kind = KINDS.get(result.code, "interrupted" if result.code < 0 else "failed")
        words = _SENTENCES.get(kind) or self.redacted(_last_words(result) or f"exit status {result.code}")
        if result.code == 124:
            words = f"it took longer than {timeout:g} s and was stopped"
        return ResticError(f"{self.repository.label}: restic {verb}: {words}", kind, result.code)

    def redacted(self, text: str) -> str:
        """The text without any secret of this repository."""
        for secret in (self.repository.password, self.repository.rest):
            if secret:
                text = text.replace(secret.strip(), "***")
        return text


@contextlib.contextmanager
def opened(repository: AdminRepository, program: str = "restic") -> Iterator[Session]:
    """A session whose private folder is removed whatever happens.

    What a killed run left is removed at the next start, once no restic of it lives any more. Raises ResticError.
    """
    path = usable(program)
    parent = _parent()
    _sweep(parent)
    folder, held = _private(parent)
    try:
        for name, content in files(repository).items():
            descriptor = os.open(f"{folder}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with open(descriptor, "w", encoding="utf-8") as stream:
                stream.write(content)
        yield Session(repository, folder, path, held)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _parent() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")  # memory, not disk, where there is one
    return runtime if os.path.isdir(runtime) and os.access(runtime, os.W_OK) else tempfile.gettempdir()


def _private(parent: str) -> tuple[str, int]:
    """A new private folder, and the descriptor whose lock says that somebody lives in it."""
    while True:
        folder = tempfile.mkdtemp(prefix="understudy-restic-", dir=parent)
        held = os.open(f"{folder}/.held", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        if os.fstat(held).st_nlink:
            return folder, held
        os.close(held)  # another one starting up took it for a killed run's, before it was locked


def _sweep(parent: str) -> None:
    for folder in Path(parent).glob("understudy-restic-*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            descriptor = os.open(folder / ".held", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _follow(
    process: subprocess.Popen[bytes],
    timeout: float,
    feed: bytes | None,
    on_message: Callable[[Message], None] | None,
) -> tuple[Result, bool]:
    result = Result(0)
    late = threading.Event()

    def stop() -> None:
        late.set()
        _end(process)

    timer = threading.Timer(timeout, stop)
    timer.daemon = True
    timer.start()
    errors = threading.Thread(target=_collect, args=(process.stderr, result.err), daemon=True)
    errors.start()
    try:
        if feed is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(feed)
                process.stdin.close()
        assert process.stdout is not None
        for raw in process.stdout:
            _heard(raw.decode("utf-8", "replace").rstrip("\n"), result, on_message)
        result.code = process.wait()
        errors.join(5)
    except BaseException:  # also Ctrl-C: restic is asked to stop, so that it removes its lock
        _end(process)
        raise
    finally:
        timer.cancel()
    return result, late.is_set()


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _collect(stream: IO[bytes], into: list[str]) -> None:
    for raw in stream:
        into.append(raw.decode("utf-8", "replace").rstrip("\n"))


def _heard(line: str, result: Result, on_message: Callable[[Message], None] | None) -> None:
    value = _parsed(line)
    if isinstance(value, Mapping) and "message_type" in value:
        message = dict(value)
        if message["message_type"] != "status":  # thousands of them, wanted only as they come
            result.messages.append(message)
        if on_message is not None:
            on_message(message)
        return
    if value is not None:
        result.value = value
    result.lines.append(line)


def _parsed(line: str) -> Any:
    if not line.startswith(("{", "[")):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None


def _last_words(result: Result) -> str:
    """The last message of an error: JSON in newer versions, plain text in all."""
    for line in reversed(result.err):
        value = _parsed(line)
        if isinstance(value, dict):
            error = value.get("error")
            text = value.get("message") or (error.get("message") if isinstance(error, dict) else None)
            if text:
                return " ".join(str(text).split())
        elif line.strip():
            return line.strip()
    return ""
