"""The first connection: the right key or none, checked before anything is sent; the change of keys, killed anywhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from understudy.errors import UnderstudyError
from understudy.replica import down, identity, login, rotation
from understudy.replica.model import Server

from .machine import Machine


class Killed(Exception):
    """The run ends here."""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(tmp_path)
    use = rotation.USE.split("sync")[0]  # the reload is the machine's own business here
    monkeypatch.setattr(rotation, "MAKE", rotation.MAKE.replace("/etc/ssh", str(tmp_path)))
    monkeypatch.setattr(rotation, "USE", use.replace("/etc/ssh", str(tmp_path)))
    yield made
    made.close()


def mark_of(public: str) -> str:
    return identity.mark(identity.blob(public))


def test_the_right_key_opens(machine: Machine) -> None:
    key = login.trusted_key(machine.door, {mark_of(machine.first.public)})
    with login.opened(machine.door, key) as client:
        assert login.run(client, "echo in", 10) == "in\n"
        with pytest.raises(UnderstudyError, match=r"on the replica: no such thing \(exit status 3\)"):
            login.run(client, "echo no such thing >&2; exit 3", 10)
        with pytest.raises(UnderstudyError, match="did not finish within 1 s"):
            login.run(client, "sleep 3", 1)


def test_a_wrong_key_is_refused_before_anything_is_sent(machine: Machine) -> None:
    other = identity.new_key("other").public
    with pytest.raises(login.WrongKey, match="another SSH host key") as caught:
        login.wait_for(machine.door, {mark_of(other)}, 5, lambda line: None)
    assert caught.value.exit_code == 3
    with pytest.raises(login.WrongKey), login.opened(machine.door, identity.blob(other)):
        pass


def test_nobody_there_is_waited_for_and_then_said(machine: Machine) -> None:
    machine.close()
    heard: list[str] = []
    with pytest.raises(UnderstudyError, match=r"does not answer at 127\.0\.0\.1 after 0 s"):
        login.wait_for(machine.door, {"x"}, 0.1, heard.append)
    assert len(heard) == 1


def test_a_login_that_is_not_let_in_is_no_wrong_key(machine: Machine) -> None:
    machine.let_in = False
    key = identity.blob(machine.first.public)
    with pytest.raises(login.NotYet, match="no login as root"), login.opened(machine.door, key):
        pass


@pytest.mark.parametrize("killed", ["never", "both keys noted", "new key in use", "before the last label"])
def test_the_key_is_replaced_wherever_it_was_interrupted(
    machine: Machine, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {rotation.CURRENT: mark_of(machine.first.public)}

    def keep(changed: dict[str, str]) -> None:
        if killed == "before the last label" and rotation.NEXT not in changed:
            raise Killed
        labels.clear()
        labels.update(changed)
        if killed == "both keys noted":
            raise Killed

    def waiting(*_: object) -> bytes:
        raise Killed

    if killed != "never":
        with pytest.raises(Killed), monkeypatch.context() as patch:
            if killed == "new key in use":
                patch.setattr(login, "wait_for", waiting)
            rotation.rotate(machine.door, identity.blob(machine.first.public), labels, keep)
        assert len(rotation.marks(labels)) == 2, "both keys are vouched for while either may be shown"
        killed = "never"
    shown = login.trusted_key(machine.door, rotation.marks(labels))
    key = rotation.rotate(machine.door, shown, labels, keep)
    assert labels == {rotation.CURRENT: identity.mark(key)}
    assert identity.mark(key) != mark_of(machine.first.public)
    with login.opened(machine.door, key) as client:
        login.run(client, "true", 10)
    with pytest.raises(login.WrongKey):
        login.trusted_key(machine.door, {mark_of(machine.first.public)})


def test_a_known_hosts_file_is_what_ssh_itself_accepts(machine: Machine, tmp_path: Path) -> None:
    pins = tmp_path / "pins" / "one"
    login.write_pin(pins, identity.known_hosts_line("lab", identity.blob(machine.first.public)))
    words = ["-o", f"UserKnownHostsFile={pins}", "-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=lab"]
    more = [
        "-o",
        "BatchMode=yes",
        "-i",
        machine.door.key_file,
        "-p",
        str(machine.port),
        "root@127.0.0.1",
        "true",
    ]
    assert subprocess.run(["ssh", "-F", "none", *words, *more], check=False).returncode == 0
    login.write_pin(pins, identity.known_hosts_line("lab", identity.blob(identity.new_key("x").public)))
    done = subprocess.run(["ssh", "-F", "none", *words, *more], capture_output=True, text=True, check=False)
    assert done.returncode == 255 and "verification failed" in done.stderr


@pytest.mark.parametrize(
    ("state", "groups", "sentence"),
    [
        ("ready", ["critical"], "serves critical now: bring that back first"),
        ("ready", [], ""),
        ("ready", None, ""),
        ("fresh", ["critical"], ""),
    ],
)
def test_a_replica_that_serves_is_not_destroyed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, state: str, groups: list[str] | None, sentence: str
) -> None:
    may = machine.folder / "may"
    for group in groups or []:
        may.mkdir(exist_ok=True)
        (may / group).touch()
    if groups == []:
        may.mkdir()
    monkeypatch.setattr(down, "SERVING", down.SERVING.replace("/run/understudy/may", str(may)))
    monkeypatch.setattr(down, "Door", lambda *_, **__: machine.door)
    labels = {"state": state, rotation.CURRENT: mark_of(machine.first.public)}
    server = Server(1, "replica", "running", labels, "127.0.0.1", "cx23", "fsn1", 0.0)
    found = down.serving([server], "root", "")
    assert (sentence in found) if sentence else found == ""


def test_a_replica_that_cannot_be_asked_is_not_destroyed_either(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(down, "Door", lambda *_, **__: machine.door)
    labels = {"state": "ready", rotation.CURRENT: mark_of(identity.new_key("x").public)}
    server = Server(1, "replica", "running", labels, "127.0.0.1", "cx23", "fsn1", 0.0)
    assert "could not be read" in down.serving([server], "root", "")
    monkeypatch.setattr(down, "SERVING", "ls /nothing/at/all")
    labels[rotation.CURRENT] = mark_of(machine.first.public)
    assert "could not be read" in down.serving([server], "root", "")
