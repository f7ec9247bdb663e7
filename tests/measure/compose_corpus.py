"""Reads every Compose file below a folder as the catalogue does, and prints how many are accepted, warned and refused.

    python tests/measure/compose_corpus.py FOLDER [--all]

The folder holds files of other people (never committed here). Variables get the values of a ``.env`` or
``.env.example`` beside the file, as an import would; the others count as secrets only the owner knows.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from understudy import checks, compose
from understudy.catalog import _recipes
from understudy.dotenv import parse
from understudy.faults import CatalogError, Fault
from understudy.service import Service
from understudy.spec import Block
from understudy.yamlfile import load

NAMES = re.compile(r"^(docker-)?compose[^/]*\.ya?ml$", re.IGNORECASE)


def faults_of(path: Path) -> list[Fault]:
    """Everything the catalogue would say about one file that stands alone in its folder."""
    example = next((p for p in (path.parent / ".env", path.parent / ".env.example") if p.is_file()), None)
    variables = parse(example.read_text(errors="replace")) if example else {}
    try:
        source = load(path)
        model = compose.read([source], f"/srv/{path.parent.name}", variables, path.parent)
        service = Service(path.parent.name, path.parent, Block(), model.path, model)
        service.recipes = _recipes(service, path)
        service.sources = [path]
    except CatalogError as error:
        return error.faults
    return [fault for rule in checks.PER_SERVICE for fault in rule(service, {service.name: service})]


def main() -> None:
    """Print the table; with ``--all`` also each warning."""
    folder, everything = Path(sys.argv[1]), "--all" in sys.argv
    count, kinds = Counter[str](), Counter[str]()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and NAMES.match(p.name)):
        try:
            faults = faults_of(path)
        except Exception as error:  # a file that crashes the reader is what this looks for
            count["crashed"] += 1
            print(f"CRASHED {path}: {type(error).__name__}: {error}")
            continue
        errors = [fault for fault in faults if fault.grade == "error"]
        count["refused" if errors else "warned" if faults else "accepted"] += 1
        kinds.update(re.sub(r"'[^']*'|\S*[/:0-9]\S*", "…", fault.message) for fault in faults)
        for fault in faults if everything else errors:
            print(f"{fault.grade} {fault}")
    print(
        f"\n{sum(count.values())} files: "
        + ", ".join(f"{count[k]} {k}" for k in ("accepted", "warned", "refused", "crashed"))
    )
    for kind, number in kinds.most_common():
        print(f"{number:5}  {kind}")


if __name__ == "__main__":
    main()
