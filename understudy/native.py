"""systemd services that are not containers: their unit, directories and user."""

from __future__ import annotations

import posixpath
import shlex

from .desired import Desired, NativeWish, UnitWish, Validator
from .jinja import render
from .ownership import files as ownership
from .service import Service
from .spec import Native
from .tree import Entry, directory


def add(result: Desired, service: Service) -> None:
    """Add a native service to what a host should have."""
    native = service.block.native
    assert native is not None
    reaction = f"unit:{service.unit}"
    unit_path = f"/etc/systemd/system/{service.unit}"
    result.natives[service.name] = NativeWish(service.name, native)
    result.service_packages += [name for name in native.packages if name not in result.service_packages]
    if native.user != "root" and native.user not in result.users:
        result.users.append(native.user)
    for path in () if native.file else native.writable:
        result.tree.add(directory(path, 0o750, native.user, native.user, service=service.name))
    _add_files(result, service, reaction)
    may = ownership.condition(result, service)
    own = (service.folder / native.file).read_bytes() if native.file else None
    content = own if own is not None else unit(service, native, may).encode()
    result.tree.add(Entry(unit_path, content=content, service=service.name, reaction=reaction))
    result.service_validators.append(validator(service, native, unit_path))
    if native.environment_from_credentials:
        result.service_validators.append(_program_validator(service, native, unit_path))
    result.service_units.append(UnitWish(service.unit, service=service.name, may_be_skipped=bool(may)))


def _add_files(result: Desired, service: Service, reaction: str) -> None:
    native = service.block.native
    for relative, source in service.files.items():
        if native and relative == native.file:
            continue
        path = posixpath.join(service.path, relative)
        mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
        for parent in {service.path, posixpath.dirname(path)}:
            if parent not in result.tree.entries:
                result.tree.add(directory(parent, service=service.name))
        result.tree.add(
            Entry(path, "file", mode, content=source.read_bytes(), service=service.name, reaction=reaction)
        )


def validator(service: Service, native: Native, unit_path: str) -> Validator:
    """``systemd-analyze verify`` on the staged unit.

    A program that travels in the same upload is not in its place yet, so the unit that is checked
    names the staged one.
    """
    name, program = f"systemd-analyze verify ({service.unit})", native.exec.split()[0]
    if not program.startswith(service.path + "/"):
        argv: tuple[str, ...] = (
            "systemd-analyze",
            "verify",
            "--recursive-errors=no",
            f"{{stage}}{unit_path}",
        )
        return Validator(name, argv, (unit_path,), service.name)
    copy = f"{{stage}}/.verify/{service.unit}"
    change = f"s#^ExecStart={program}#ExecStart={{stage}}{program}#"
    script = (
        f"mkdir -p {{stage}}/.verify && sed '{change}' {{stage}}{unit_path} > {copy} && "
        f"systemd-analyze verify --recursive-errors=no {copy}"
    )
    needs = (
        (unit_path, program) if program.removeprefix(service.path + "/") in service.files else (unit_path,)
    )
    return Validator(name, ("sh", "-c", script), needs, service.name)


def _program_validator(service: Service, native: Native, unit_path: str) -> Validator:
    """systemd sees only the shell that exports the secrets, so the program behind it is looked up here."""
    program = shlex.quote(native.exec.split()[0])
    found = f"command -v {program} > /dev/null || test -x {{stage}}{program}"
    script = f"{found} || {{ echo {program} is not a program on this host; exit 1; }}"
    return Validator(f"program of {service.unit}", ("sh", "-c", script), (unit_path,), service.name)


def unit(service: Service, native: Native, may: str = "") -> str:
    """The text of the unit file. ``may``: a file without which the guard does not let it start."""
    return render(
        "native/service.j2",
        name=service.name,
        description=native.description or f"{service.name} (Understudy)",
        user=native.user,
        workdir=native.workdir,
        environment=native.environment,
        credentials=native.credentials,
        exec=command(native),
        hardening=native.hardening,
        writable=native.writable,
        after=native.after,
        may=may,
    )


def command(native: Native) -> str:
    """ExecStart: secrets that a program reads from its environment are exported from credential files,

    so that they never stand in the unit or in ``systemctl show``.
    """
    if not native.environment_from_credentials:
        return native.exec
    exports = "; ".join(
        f'{name}="$$(cat "$${{CREDENTIALS_DIRECTORY}}/{name}")"; export {name}'
        for name in native.environment_from_credentials
    )
    return f"/bin/sh -c {shlex.quote(f'{exports}; exec {native.exec}')}"
