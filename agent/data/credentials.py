"""Where credentials of repositories and jobs are: systemd's credential folder, else the host's own secrets."""

from __future__ import annotations

import os

from ..errors import AgentError
from ..root import Root

__all__ = ["FOLDER", "path"]

FOLDER = "/etc/understudy/secrets/backup"


def path(root: Root, name: str) -> str:
    """The file that holds the credential ``name``. Raises AgentError when it is nowhere.

    A name that begins with / is itself the path of a secret file. Units load the whole folder with
    ``LoadCredential=backup:FOLDER``, which systemd names ``backup_NAME``.
    """
    places = [root.at(name if name.startswith("/") else f"{FOLDER}/{name}")]
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    if given and not name.startswith("/"):
        places.insert(0, f"{given}/backup_{name}")
    for place in places:
        if os.path.exists(place):
            return place
    raise AgentError(f"the credential {name!r} is not on this host: converge it again")
