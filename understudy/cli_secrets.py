"""`understudy secrets`: make a key, edit, generate and check the secrets of the services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .errors import BadInput
from .faults import Fault
from .secrets import SecretsError, Store, check, init, scan_tree
from .spec import SecretSpec

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

Folder = Annotated[Path, typer.Option("--dir", help="The folder of the SOPS files.")]
Json = Annotated[bool, typer.Option("--json", help="The same facts for machines.")]
SECRETS = Path("secrets")
SCANNED = ("services", "group_data", "inventory", "lab/overlay", "deploy.py")


def declared() -> dict[str, Mapping[str, SecretSpec]]:
    """What every service of this project says it needs."""
    from . import project
    from .ownership import auto_secrets
    from .protection import secrets as backup_secrets
    from .replica import inventory as hetzner
    from .settings import settings_of
    from .traffic import tokens

    settings = settings_of("group_data/all.py", project.group_data([]))
    catalog = project.catalog_for(settings)
    found: dict[str, Mapping[str, SecretSpec]] = {
        name: catalog.services[name].secrets for name in catalog.stacks(catalog.services)
    }
    if settings.backup.repositories:
        found[backup_secrets.HOST] = backup_secrets.host_specs(settings.backup)
        found[backup_secrets.ADMIN] = backup_secrets.admin_specs(settings.backup)
    if settings.ownership.auto:
        found[auto_secrets.OWNER] = auto_secrets.specs()
    if settings.edge == "cloudflare":
        found[tokens.FILE] = tokens.SPECS
    if "hetzner" in project.group_data(["replica"]):
        found[hetzner.SECRETS] = hetzner.SPECS
    return found


@app.command("init")
def init_command(folder: Folder = SECRETS) -> None:
    """Make what is missing: your age key and .sops.yaml. Overwrites nothing."""
    for sentence in init(folder).sentences():
        console.print(sentence, markup=False)


@app.command()
def edit(service: str, folder: Folder = SECRETS) -> None:
    """Open your editor on the secrets of a service."""
    known = declared()
    if service not in known:
        raise SecretsError(f"no service is called {service!r}; known: {', '.join(sorted(known))}")
    store = Store(folder)
    changed = store.edit(service, known[service])
    console.print(f"{store.path(service)}: {'saved' if changed else 'nothing was changed'}", markup=False)


@app.command()
def generate(folder: Folder = SECRETS, as_json: Json = False) -> None:
    """Make every random secret that is missing; existing ones stay."""
    made = Store(folder).ensure_all(declared())
    if as_json:
        print(json.dumps(made))
        return
    for service, names in made.items():
        console.print(f"{service}: made {', '.join(names)}", markup=False)
    if not made:
        console.print("Nothing is missing.")


@app.command("check")
def check_command(
    folder: Folder = SECRETS,
    as_json: Json = False,
    clear_only: Annotated[
        bool, typer.Option("--clear-only", help="Only look for secrets in clear; needs no key.")
    ] = False,
) -> None:
    """Refuse placeholders, weak and missing values, and secrets in clear. Exit code 2 on findings."""
    faults = check(Store(folder), {} if clear_only else declared(), opened=not clear_only)
    faults += scan_tree(Path(name) for name in SCANNED)
    _report(faults, as_json)
    if any(fault.grade == "error" for fault in faults):
        raise typer.Exit(BadInput.exit_code)


def _report(faults: list[Fault], as_json: bool) -> None:
    if as_json:
        keys = ("grade", "line", "key", "message", "fix")
        print(
            json.dumps(
                [{"file": str(fault.file), **{key: getattr(fault, key) for key in keys}} for fault in faults]
            )
        )
        return
    for fault in faults:
        errors.print(f"{fault.grade}: {fault}", markup=False)
    if not faults:
        console.print("No placeholder, nothing missing, nothing in clear.")
