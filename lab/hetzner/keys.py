"""SSH keys of a project."""

from __future__ import annotations

import base64
import binascii
import hashlib

from lab.hetzner.answers import Call, Json, invalid, now, taken
from lab.hetzner.labels import check
from lab.hetzner.state import State

KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def fingerprint(public_key: str) -> str:
    """The MD5 form with colons that the API uses."""
    words = public_key.split()
    if len(words) < 2 or words[0] not in KINDS:
        raise invalid("public_key", "SSH key is not a valid public key")
    try:
        digest = hashlib.md5(base64.b64decode(words[1], validate=True)).hexdigest()  # noqa: S324
    except (binascii.Error, ValueError) as error:
        raise invalid("public_key", "SSH key is not a valid public key") from error
    return ":".join(digest[at : at + 2] for at in range(0, 32, 2))


class SshKeys:
    """The calls under /ssh_keys."""

    def __init__(self, state: State) -> None:
        self.state = state

    def search(self, call: Call) -> list[Json]:
        wanted = call.first("fingerprint")
        rows = self.state.rows("ssh_keys", call.first("name"), call.first("label_selector"))
        return [row for row in rows if not wanted or row["fingerprint"] == wanted]

    def create(self, call: Call) -> Json:
        name, text = str(call.need("name")), str(call.need("public_key"))
        mark = fingerprint(text)
        self.state.require_free_name("ssh_keys", name)
        if any(row["fingerprint"] == mark for row in self.state.rows("ssh_keys")):
            raise taken("SSH key with the same fingerprint", "public_key")
        row = {
            "id": self.state.new_id(),
            "name": name,
            "fingerprint": mark,
            "public_key": text,
            "labels": check(call.body.get("labels")),
            "created": now(),
        }
        self.state.data["ssh_keys"][str(row["id"])] = row
        return {"ssh_key": row}

    def get(self, call: Call) -> Json:
        return {"ssh_key": self.state.get("ssh_keys", call.id)}

    def update(self, call: Call) -> Json:
        row = self.state.get("ssh_keys", call.id)
        rename(self.state, "ssh_keys", row, call)
        return {"ssh_key": row}

    def delete(self, call: Call) -> None:
        self.state.get("ssh_keys", call.id)
        del self.state.data["ssh_keys"][call.id]


def rename(state: State, kind: str, row: Json, call: Call) -> None:
    """What every PUT does: a new name and new labels, where given."""
    name = call.body.get("name")
    if name and name != row["name"]:
        state.require_free_name(kind, name)
        row["name"] = name
    if "labels" in call.body:
        row["labels"] = check(call.body["labels"])
