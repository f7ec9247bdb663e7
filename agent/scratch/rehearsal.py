"""One service's rehearsal: its newest snapshot brought to life where nothing live can be reached, asked, removed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .. import probe as probing
from .. import process
from ..data.plan import Plan, Service
from ..disk import Disk
from ..errors import AgentError
from ..putback import choice
from ..putback.asked import Asked
from ..root import Root
from ..say import say
from . import asking, copies, data, fence, leftovers, model, refusal, stack
from .asking import Question
from .data import Dumped
from .stack import Stack

__all__ = ["Rehearsal", "Report"]

_RESTORE = 6 * 3600.0
_LOAD = 3600.0
_START = 600.0
_LISTEN = 180.0
_PORTS = {"postgres": 5432, "mariadb": 3306}


@dataclass
class Report:
    """What is written to the ledger. ``scope``: "full" when the service answered, "data" when only its data was checked.

    ``rows`` of all databases, ``databases`` by name; ``bytes`` and ``files`` as restored; ``phases`` in seconds.
    """

    service: str
    group: str
    tier: str
    ok: bool = False
    error: str | None = None
    scope: str = "data"
    repository: str = ""
    snapshot: str = ""
    snapshot_time: float = 0.0
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    databases: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    files: int = 0
    probes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Rehearsal:
    """Runs once. The caller holds the drill's lock and has removed leftovers."""

    def __init__(self, root: Root, plan: Plan, service: Service, repository: str = "") -> None:
        self.root, self.plan, self.service, self.repository = root, plan, service, repository
        self.report = Report(service.name, service.group, service.tier)
        self.top = f"{leftovers.DRILLS}/{service.name}"
        self.restored = f"{self.top}/restored"
        self.folder = f"{self.restored}/{service.name}"

    def run(self) -> Report:
        """Everything, and whatever happens the removal. Does not raise AgentError: it is in the report."""
        started = time.monotonic()
        try:
            try:
                self._rehearse()
            finally:
                with self._phase("remove"):
                    leftovers.remove(self.root)
            self.report.ok = True
        except AgentError as error:
            self.report.error = error.sentence
        self.report.seconds = round(time.monotonic() - started, 3)
        return self.report

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        say(f"drill of {self.service.name}: {name}")
        began = time.monotonic()
        try:
            yield
        finally:
            self.report.phases[name] = round(time.monotonic() - began, 3)

    def _rehearse(self) -> None:
        Disk(self.root).private_dir(self.top)
        manifest, dumps = self._data()
        if not self.service.compose:
            how = "a native unit" if self.service.unit else "plain files"
            self.report.notes.append(f"{how}: the data was restored and compared, nothing was started")
            return
        with self._phase("prepare"):
            scratch, servers, questions = self._prepare(manifest)
        if not stack.read(scratch.file)["services"]:
            self.report.notes.append("every container is left out: the data was restored and compared")
            return
        with self._phase("servers"):
            fence.up()
            self._start_servers(scratch, servers)
        with self._phase("load"):
            where = {key: (scratch.project, name) for key, name in servers.items()}
            self._count(data.load(self.root, dumps, where, _LOAD))
        with self._phase("start"):
            self._after_load(scratch)
            self._start(scratch)
        with self._phase("probe"):
            self._ask(scratch, questions)
        self.report.scope = "full"

    def _data(self) -> tuple[dict[str, Any], list[Dumped]]:
        report, service = self.report, self.service
        with self._phase("choose"):
            asked = Asked(services=(service.name,), repository=self.repository)
            batches, without = choice.batches(self.root, self.plan, asked)
            if service.name in without:
                raise without[service.name]
            repo, snapshot = batches[0].repo, batches[0].snapshot
            report.repository, report.snapshot = repo.name, snapshot.id
            report.snapshot_time = round(snapshot.time, 3)
            parts = data.measure(repo, snapshot.id, service, self.root.at(f"{self.restored}.list"), _RESTORE)
            data.room(self.root, self.plan, service.name, parts, self.top)
            report.bytes = sum(part.bytes for part in parts.values())
            report.files = sum(part.files for part in parts.values())
        with self._phase("restore"):
            manifest = data.restore(self.root, repo, snapshot.id, service, self.restored, _RESTORE)
        with self._phase("check"):
            dumps = data.dumped(service, manifest, self.folder)
            data.check_dumps(self.root, service.name, dumps)
            copies.caches(self.root, manifest, self.folder)
            self._count(data.place_files(self.root, dumps, manifest, self.folder, _LOAD))
        return manifest, dumps

    def _count(self, loaded: list[Any]) -> None:
        for one in loaded:
            rows = sum(one.rows.values())
            self.report.databases[one.name] = rows
            self.report.rows += rows

    def _prepare(self, manifest: dict[str, Any]) -> tuple[Stack, dict[tuple[str, str], str], list[Question]]:
        service = self.service
        live = stack.resolved(service.name, service.compose)
        doors, hosts = model.doors(live)
        questions, lost = asking.questions(service.probes, doors, hosts)
        self.report.notes += [
            f"probe {name} leads to nothing in the project and was not asked" for name in lost
        ]
        live, servers = self._with_servers(live)
        probed = {name for name, _, _ in questions}
        leave = model.left_out(
            live, service.drill.get("without") or (), {*service.servers, *servers.values()}, probed
        )
        self.report.left_out = leave
        leave = leave | self._of_others(live, servers)
        questions = [question for question in questions if question[0] not in leave]
        places = copies.place(
            self.root, service, model.wanted(live, leave), manifest, self.folder, self.report.notes
        )
        project = model.project_of(service.name)
        made = model.rewrite(live, project, model.bridge_of(service.name), places, leave)
        self.report.notes += made.dropped
        file = self.root.at(f"{self.top}/project/compose.json")
        stack.write(file, made.model)
        return Stack(service.name, project, file, self._secrets(places)), servers, questions

    def _with_servers(self, live: dict[str, Any]) -> tuple[dict[str, Any], dict[tuple[str, str], str]]:
        """The model with servers of other projects that the service's databases are in; and every server's name in it."""
        servers: dict[tuple[str, str], str] = {}
        for database in self.service.databases:
            key = database.project, database.container
            if database.kind not in _PORTS or key in servers:
                continue
            if database.project == self.service.project and self.service.has(database.container):
                servers[key] = database.container
                continue
            owner = self.plan.running(*key)
            if owner is None:
                raise AgentError(
                    f"{self.service.name}: no service of the plan runs the server {'/'.join(key)}"
                )
            live, servers[key] = model.adopt(
                live, stack.resolved(owner.name, owner.compose), database.container
            )
        return live, servers

    def _of_others(self, live: dict[str, Any], servers: dict[tuple[str, str], str]) -> dict[str, str]:
        """What other units of the same file run; servers with this one's databases in them are in the model by now."""
        others = {name for name in live["services"] if not self.service.has(name)} - set(servers.values())
        return dict.fromkeys(others, "of another unit of the same file")

    def _secrets(self, places: model.Places) -> tuple[str, ...]:
        found = []
        for name, path in places.files.items():
            if name.startswith("secrets/"):
                with open(path, encoding="utf-8", errors="replace") as stream:
                    found += [line.strip() for line in stream if len(line.strip()) > 3]
        return tuple(found)

    def _read(self, scratch: Stack) -> dict[str, Any]:
        """The project as it will be started, checked again just before: nothing in it leaves the drill folder."""
        made = stack.read(scratch.file)
        refusal.check(made, self.root.at(self.top))
        if not fence.present():
            raise AgentError(f"{self.service.name}: the wall around its copy is gone, so nothing is started")
        return made

    def _start_servers(self, scratch: Stack, servers: dict[tuple[str, str], str]) -> None:
        made = self._read(scratch)
        first = [name for name in made["services"] if name in (*self.service.servers, *servers.values())]
        scratch.up(first, _START, alone=True)
        kinds = {(d.project, d.container): d.kind for d in self.service.databases}
        for key, name in servers.items():
            scratch.listens(name, _PORTS[kinds[key]], _LISTEN)

    def _after_load(self, scratch: Stack) -> None:
        for hook in self.service.hooks.get("after_load", ()):
            self._read(scratch)
            user = ["--user", hook.user] if hook.user else []
            words = ["run", "--rm", "--no-deps", "-T", *user, "--entrypoint", hook.run[0], hook.service]
            ended = process.run(scratch.argv(*words, *hook.run[1:]), hook.timeout)
            if not ended.ok:
                raise AgentError(
                    f"{self.service.name}: after_load {' '.join(hook.run)[:60]}: {ended.why()}", "start"
                )

    def _start(self, scratch: Stack) -> None:
        scratch.up(list(self._read(scratch)["services"]), _START)

    def _ask(self, scratch: Stack, questions: list[Question]) -> None:
        probes = [asking.rewritten(probe, scratch.address(name), port) for name, port, probe in questions]
        results = probing.run({"probes": probes}, self.root)["results"]
        for result in results:
            if not result["ok"]:
                raise AgentError(
                    f"{self.service.name}: its copy does not answer as it should: {result['name']}: {result['error']}",
                    "probe",
                )
        self.report.probes = [str(result["name"]) for result in results]
        if not results:
            self.report.notes.append(
                "no probe leads to it: its containers ran and were healthy, nothing was asked"
            )
