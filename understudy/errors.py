"""The errors an owner can meet, each with the exit code that design.md gives it."""

from __future__ import annotations


class UnderstudyError(Exception):
    """Something failed; the message is one sentence that says what to do. Exit code 1."""

    exit_code = 1


class BadInput(UnderstudyError):
    """The description is wrong; nothing was contacted. Exit code 2."""

    exit_code = 2


class Refused(UnderstudyError):
    """Going on could hurt data; the message names the ways on. Exit code 3."""

    exit_code = 3
