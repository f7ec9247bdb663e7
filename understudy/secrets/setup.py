"""First use: an age identity for the owner and .sops.yaml for the project."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from . import identity
from .errors import SecretsError

CONFIG = """\
# Who can read {folder}/. To add somebody: append their age public key after a comma, then run
# `sops updatekeys {folder}/NAME.yaml` for every file.
creation_rules:
  - path_regex: (^|/){pattern}/[^/]+\\.yaml$
    age: {recipient}
"""


@dataclass(frozen=True)
class Initialised:
    """What :func:`init` found or made."""

    key_file: Path
    recipient: str
    config: Path
    made_key: bool
    made_config: bool
    in_config: bool

    def sentences(self) -> list[str]:
        """What the owner has to know, one sentence each."""
        lines = [f"{'Made' if self.made_key else 'Found'} your age key: {self.key_file}"]
        lines.append(
            "Keep a copy of that file elsewhere: without it every secret of this project is lost for good."
        )
        lines.append(
            f"{'Wrote' if self.made_config else 'Left as it is:'} {self.config} (public key {self.recipient})"
        )
        if not self.in_config:
            lines.append(f"{self.config} does not name your key: ask its owner to add {self.recipient}")
        return lines


def config_of(folder: Path) -> Path:
    """The .sops.yaml that rules a secrets folder. Raises SecretsError when there is none."""
    path = folder.resolve().parent / ".sops.yaml"
    if not path.exists():
        raise SecretsError(
            f"{path}: is not there, so nothing says for whom to encrypt: `understudy secrets init` writes it"
        )
    return path


def init(folder: Path) -> Initialised:
    """Prepare a secrets folder. Makes only what is missing and overwrites nothing."""
    file = identity.key_file()
    present = identity.recipients_of_key_file(file)
    if file.exists() and not present:
        raise SecretsError(f"{file}: holds no age key: move it away or set SOPS_AGE_KEY_FILE to another file")
    recipient = present[0] if present else identity.create(file)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    config = folder.resolve().parent / ".sops.yaml"
    made_config = _write_config(config, folder.resolve().name, recipient)
    named = any(key in config.read_text(encoding="utf-8") for key in [recipient, *present])
    return Initialised(file, recipient, config, not present, made_config, named)


def _write_config(path: Path, folder: str, recipient: str) -> bool:
    text = CONFIG.format(folder=folder, pattern=re.escape(folder), recipient=recipient)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True
