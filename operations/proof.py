"""The end of a converge: every service answers with the content it should."""

from __future__ import annotations

from typing import Any

from pyinfra.api import operation

from ..errors import UnderstudyError
from ..ownership.held import held
from .session import Commands, Session, guarded, looking

SETTLED_WAIT = 5.0


@operation()
@guarded
def answered() -> Commands:
    """Probe every service, directly and by its public name through the proxy."""
    yield from looking(prove, "every service answers as it should")


def prove(session: Session) -> None:
    """Run all probes on the host. Raises UnderstudyError naming each service that did not answer as it should."""
    down = held(session.desired, session.survey())
    wanted = [
        wish
        for wish in session.desired.probes
        if session.only in ("", session.desired.stack_named(wish.service))
    ]
    wishes = [wish for wish in wanted if wish.service not in down]
    # Patience is for what has just been started; on a host left as it was a wrong answer is wrong now.
    most = float("inf") if any(session.report.get("changed", {}).values()) else SETTLED_WAIT
    probes = [{**wish.request, "wait": min(most, wish.request["wait"])} for wish in wishes]
    longest = max((probe["wait"] for probe in probes), default=0)
    request = {"probes": probes, "parallel": 8}
    results = session.agent("probe", request, timeout=int(longest) + 120)["results"] if wishes else []
    session.note(probes=[_row(wish.service, result) for wish, result in zip(wishes, results, strict=True)])
    failed = [f"{result['name']}: {result['error']}" for result in results if not result["ok"]]
    if failed:
        raise UnderstudyError("\n".join(failed))
    session.write_report()


def _row(service: str, result: dict[str, Any]) -> dict[str, Any]:
    keys = ("name", "ok", "status", "ms", "waited", "error")
    return {"service": service, **{key: result.get(key) for key in keys}}
