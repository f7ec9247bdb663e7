"""`understudy retire`: stop a service everywhere, set its folder aside, converge the rest."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from . import runner
from .catalog import Catalog, Source, load_catalog
from .errors import BadInput, Refused

ASIDE = ".retired"


def retire(root: Path, inventory: str, service: str, console: Console, limit: str = "") -> int:
    """Retire one service; returns the exit code. Killed midway, it is run again with the same words."""
    flags = ["-y", *(["--limit", limit] if limit else [])]
    folder, aside = root / "services" / service, root / "services" / ASIDE / service
    if not folder.is_dir() and not aside.is_dir():
        raise BadInput(_no_folder(root, service))
    if folder.is_dir():
        _check_needed(root, service)
        stopped = runner.run(
            inventory, str(runner.DEPLOYS / "retire.py"), {"service": service}, flags, quiet=True
        )
        if stopped.exit_code:
            console.print("\n".join(report.get("error", "") for report in stopped.reports), style="red")
            return stopped.exit_code
        _say_kept(console, stopped)
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
    console.print(f"services/{service} is now in services/{ASIDE}/{service}; removing its route and files")
    return runner.run(inventory, "deploy.py", {}, flags).exit_code


def _catalog(root: Path) -> Catalog:
    """The services, as far as they can be read."""
    try:
        return load_catalog(Source(root / "services", variables={"DOMAIN": "", "TZ": ""}))
    except BadInput:
        return Catalog()


def _no_folder(root: Path, service: str) -> str:
    known = _catalog(root).services.get(service)
    if known is None:
        return f"there is no services/{service}: nothing to retire"
    return (
        f"{service} is one of the applications of services/{known.stack}: take it out of the files there and "
        "converge; its data stays on the host"
    )


def _check_needed(root: Path, service: str) -> None:
    catalog = _catalog(root)
    users = [name for name in catalog.stacks(catalog.services) if service in catalog.needs_of(name)]
    if users:
        raise Refused(f"{', '.join(users)} needs {service}: retire that first or change its needs")


def _say_kept(console: Console, stopped: runner.Run) -> None:
    for report in stopped.reports:
        kept = ", ".join(report.get("kept") or []) or "it had none"
        console.print(
            f"{report['host']}: {report.get('stopped')} stopped; data kept: {kept}", highlight=False
        )
