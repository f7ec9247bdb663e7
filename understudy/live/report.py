"""What an audit says: plain values that text, JSON and HTML share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Grade = Literal["kept", "weak", "lost", "cache"]
GRADES: tuple[Grade, ...] = ("lost", "weak", "kept", "cache")


@dataclass
class Place:
    """One place with data. ``bytes`` is None where nobody could look; ``complete`` False means "at least"."""

    what: str
    kind: str  # volume, anonymous volume, folder, file, database
    bytes: int | None
    users: list[str] = field(default_factory=list)
    sqlite: list[str] = field(default_factory=list)
    complete: bool = True
    grade: Grade = "lost"
    why: str = "nothing copies it"


@dataclass
class Running:
    """One container or unit."""

    name: str
    image: str = ""
    digest: str = ""
    version: str = ""
    state: str = ""
    note: str = ""


@dataclass
class App:
    """A Compose project, a container of its own, or a systemd unit."""

    kind: str
    name: str
    folder: str = ""
    files: list[str] = field(default_factory=list)
    described: bool = False  # its files are also somewhere else
    running: list[Running] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Job:
    """Something that runs by the clock and copies data, or should."""

    name: str
    owner: str
    when: str
    does: str
    broken: str = ""


@dataclass
class Report:
    """One host."""

    host: str
    system: str
    at: str
    headline: str = ""
    apps: list[App] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    routes: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    disks: list[dict[str, Any]] = field(default_factory=list)
    commands: int = 0
    seconds: float = 0.0

    @property
    def places(self) -> list[Place]:
        """Every place of data, once."""
        return list({place.what: place for app in self.apps for place in app.places}.values())

    def of(self, grade: Grade) -> list[Place]:
        """Places of one grade, the biggest first."""
        return sorted((p for p in self.places if p.grade == grade), key=lambda p: -(p.bytes or 0))

    @property
    def undescribed(self) -> list[App]:
        """Applications whose files exist on this machine only."""
        return [app for app in self.apps if not app.described]

    @property
    def would_lose(self) -> bool:
        """True when the death of the machine would cost something, or when that cannot be told."""
        return bool(self.of("lost") or self.of("weak") or self.undescribed or self.unread)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "would_lose": self.would_lose}


def from_json(values: dict[str, Any]) -> Report:
    """A report from its plain values."""
    apps = [
        App(
            **{
                **app,
                "running": [Running(**one) for one in app["running"]],
                "places": [Place(**place) for place in app["places"]],
            }
        )
        for app in values["apps"]
    ]
    return Report(**{**values, "apps": apps, "jobs": [Job(**job) for job in values["jobs"]]})
