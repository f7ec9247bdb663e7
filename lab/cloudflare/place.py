"""The lab's Cloudflare: brought up, taken down, and what an inventory needs to know of it."""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.cloudflare.control import SOCKET, Control
from lab.cloudflare.program import API, COLOS, CONNECTORS, FIRST_COLO, FIRST_RESOLVER, RESOLVERS
from lab.facts import Facts
from lab.settings import Settings
from lab.storage import daemons
from lab.storage.place import Place, answers, find_place, write_private

DOMAIN = "example.org"
OWNER = ("Zone Read", "DNS Write", "Tunnel Write")
"""What the owner's token may do: no more than docs/traffic.md asks for."""
BALANCING = ("Monitors Write", "Balancers Write")
"""And with load balancers."""
AUTHORITY_ON_HOSTS = "/usr/local/share/understudy-lab-ca.pem"


@dataclass(frozen=True)
class Cloudflare:
    """One lab's Cloudflare as tests and inventories see it."""

    place: Place

    @property
    def control(self) -> Control:
        return Control(self.place.folder)

    @property
    def api_url(self) -> str:
        return f"http://{self._at(API)}/client/v4"

    def edge(self, colo: str = COLOS[0]) -> str:
        """The address of a colo's HTTP front: ask it with the public name as Host."""
        return f"http://{self._at(FIRST_COLO + COLOS.index(colo))}"

    @property
    def edges(self) -> list[str]:
        return [self.edge(colo) for colo in COLOS]

    @property
    def resolvers(self) -> list[str]:
        """DNS over HTTPS (RFC 8484 and JSON), signed by ``authority``."""
        return [f"https://{self._at(FIRST_RESOLVER + number)}/dns-query" for number in range(RESOLVERS)]

    @property
    def authority(self) -> Path:
        """The certificate that signs the resolvers', on this machine; hosts have it at AUTHORITY_ON_HOSTS."""
        return self.place.folder / "ca.pem"

    def owner_token(self) -> str:
        """The owner's API token, made once: it is in the lab's SOPS files, so a new account takes it over."""
        note = self.place.folder / "owner-token"
        if not note.exists():
            write_private(note, secrets.token_urlsafe(30))
        return note.read_text()

    def daemon(self) -> daemons.Daemon:
        address, port = self.place.outside, self.place.first_port
        words = [str(self.place.folder), address, str(port), DOMAIN]
        root, control = Path(__file__).resolve().parents[2], self.place.folder / SOCKET
        return daemons.Daemon(
            "cloudflare",
            self.place.folder,
            [sys.executable, "-m", "lab.cloudflare.program", *words],
            lambda: answers(address, port + API) and answers(address, port + CONNECTORS) and control.exists(),
            tuple(sorted([*root.glob("lab/cloudflare/*.py"), *root.glob("lab/edge/*.py")])),
            {"PYTHONPATH": str(root)},
        )

    def _at(self, number: int) -> str:
        return f"{self.place.outside}:{self.place.port(number)}"


def folder(settings: Settings) -> Path:
    return settings.state / "cloudflare"


def find_cloudflare(settings: Settings, facts: Facts) -> Cloudflare:
    """The lab's Cloudflare, running or not."""
    return Cloudflare(find_place(folder(settings), facts.gateway))


def up(settings: Settings, facts: Facts) -> bool:
    """Running afterwards; returns whether it had to be started."""
    found = find_cloudflare(settings, facts)
    started = found.daemon().ensure()
    if found.owner_token() not in found.control.data()["tokens"]:
        found.control.token(OWNER, value=found.owner_token())
    return started


def down(settings: Settings) -> None:
    """Ended, and what the account holds thrown away; its ports stay what they are."""
    where = folder(settings)
    if not where.is_dir():
        return
    daemons.stop_all(where)
    for name in ("state.json", "cloudflare.sock", "cloudflare.log"):
        (where / name).unlink(missing_ok=True)
