"""A run's exit code, and how an operation fails: in one sentence, on its host only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.command import FunctionCommand, PyinfraCommand, StringCommand

from understudy import retire, runner
from understudy.errors import BadInput, Refused, UnderstudyError
from understudy.operations import session
from understudy.operations.session import Session, guarded


@pytest.mark.parametrize(
    ("code", "reports", "exit_code"),
    [
        (0, [{}], 0),
        (1, [{}], 1),
        (1, [{"exit_code": 1}, {"exit_code": 3}], 3),
        (1, [{"exit_code": 2}, {}], 2),
        (0, [], 0),
    ],
)
def test_the_most_telling_exit_code_wins(code: int, reports: list[dict[str, Any]], exit_code: int) -> None:
    assert runner.Run(code, reports).exit_code == exit_code


class Recorder:
    """Stands where pyinfra's host does: it remembers what was said."""

    name = "box"

    def __init__(self) -> None:
        self.said: list[str] = []

    def log_styled(self, text: str, **style: Any) -> None:
        self.said.append(text)


def failing(error: UnderstudyError) -> Iterator[PyinfraCommand]:
    yield StringCommand("before")
    raise error


@pytest.mark.parametrize(
    ("error", "code"), [(UnderstudyError("no room"), 1), (BadInput("wrong"), 2), (Refused("a\nb"), 3)]
)
def test_an_operation_that_cannot_compare_fails_its_host_with_its_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: UnderstudyError, code: int
) -> None:
    host, report = Recorder(), tmp_path / "report.jsonl"
    monkeypatch.setenv(session.REPORT_VARIABLE, str(report))
    monkeypatch.setitem(session._sessions, "box", Session(host, None))  # type: ignore[arg-type]
    commands = list(guarded(lambda: failing(error))())  # type: ignore[arg-type]
    last = commands[-1]
    assert isinstance(last, FunctionCommand) and last.function(None, host) is False
    assert host.said == str(error).splitlines()
    assert json.loads(report.read_text()) == {
        "host": "box",
        "commands": 0,
        "error": str(error),
        "exit_code": code,
    }


def test_an_error_of_another_kind_is_not_swallowed() -> None:
    def body() -> Iterator[PyinfraCommand]:
        yield StringCommand("x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(guarded(body)())  # type: ignore[arg-type]


def test_only_known_services_can_be_retired(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no services/nobody"):
        retire.retire(tmp_path, "inventory/x.py", "nobody", None)  # type: ignore[arg-type]


def test_what_others_need_is_not_retired(tmp_path: Path) -> None:
    for name, needs in (("base", "[]"), ("user", "[base]")):
        (tmp_path / "services" / name).mkdir(parents=True)
        (tmp_path / "services" / name / "compose.yaml").write_text("services: {app: {image: 'x:1'}}\n")
        (tmp_path / "services" / name / "understudy.yaml").write_text(f"needs: {needs}\n")
    with pytest.raises(Refused, match="user needs base"):
        retire.retire(tmp_path, "inventory/x.py", "base", None)  # type: ignore[arg-type]
    assert (tmp_path / "services" / "base").is_dir()
