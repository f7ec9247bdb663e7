"""Where one practice world keeps its things, and what everything it makes is called."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from understudy.errors import Refused

CLOUD_CREDENTIALS = (
    "HCLOUD_TOKEN",
    "CLOUDFLARE_API_TOKEN",
    "CLOUDFLARE_API_KEY",
    "CLOUDFLARE_EMAIL",
    "CF_API_TOKEN",
    "CF_API_KEY",
    "CF_API_EMAIL",
)
DEFAULT_HOSTS = ("lemongrab", "standby")
PRIMARY = "lemongrab"
SCRATCH = "understudy-lab-"  # temporary folders: this, the process id, a dash, anything
OUR_OWN = "lab-"  # how the emulated clouds' tokens begin, which no real one does
LABEL = "understudy.lab"  # every container, volume, network and image of any lab carries it


@dataclass(frozen=True)
class Settings:
    """One practice world: the clone it belongs to and the folder that holds its state."""

    root: Path
    state: Path

    @property
    def project(self) -> str:
        """A name of its own per state folder, so that two clones on one machine do not meet."""
        return "understudy-lab-" + hashlib.sha256(str(self.state).encode()).hexdigest()[:6]

    @property
    def label(self) -> str:
        return f"{LABEL}={self.project}"

    @property
    def network(self) -> str:
        return self.project

    @property
    def key(self) -> Path:
        return self.state / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.state / "known_hosts"

    @property
    def facts(self) -> Path:
        return self.state / "lab.json"

    def container(self, host: str) -> str:
        return f"{self.project}-{host}"

    def volume(self, host: str) -> str:
        """The Docker volume that is the host's /var/lib/docker."""
        return f"{self.project}-{host}-docker"


def find_settings() -> Settings:
    """The lab of this clone; UNDERSTUDY_LAB names another state folder."""
    root = Path(__file__).resolve().parent.parent
    state = Path(os.environ.get("UNDERSTUDY_LAB") or root / ".lab")
    return Settings(root=root, state=state.resolve())


def refuse_cloud_credentials(environment: dict[str, str]) -> None:
    """Raises Refused when a credential of a real cloud account could reach the lab."""
    real = {name: value for name, value in environment.items() if not value.startswith(OUR_OWN)}
    found = [name for name in CLOUD_CREDENTIALS if real.get(name)]
    found += sorted(
        name for name in environment if name.startswith("CF_") and name not in found and environment[name]
    )
    if found:
        raise Refused(
            f"the lab does not run beside real cloud credentials: unset {', '.join(found)} and try again"
        )
