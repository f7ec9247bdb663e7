"""The one way text is rendered: strict Jinja2, errors with file and line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from .faults import CatalogError, Fault

TEMPLATES = Path(__file__).parent / "templates"


def _is_page(name: str | None) -> bool:
    return bool(name and name.endswith(".html.j2"))


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=_is_page,  # noqa: S701 - the rest is configuration, not HTML
    )


def render(template: str, **values: Any) -> str:
    """Render ``templates/<template>``. A broken template or an unknown name raises CatalogError."""
    return _rendered(TEMPLATES / template, lambda: _environment().get_template(template), values)


def render_file(path: Path, **values: Any) -> str:
    """Render a file of a service folder."""
    return _rendered(path, lambda: _environment().from_string(path.read_text(encoding="utf-8")), values)


def _rendered(path: Path, template: Any, values: dict[str, Any]) -> str:
    try:
        text: str = template().render(**values)
    except jinja2.TemplateSyntaxError as error:
        raise CatalogError(
            [Fault("error", path, error.lineno, "", f"broken template: {error.message}")]
        ) from error
    except jinja2.UndefinedError as error:
        raise CatalogError([Fault("error", path, _line_of(error, path), "", f"{error.message}")]) from error
    return text


def _line_of(error: BaseException, path: Path) -> int:
    """The last template line in the traceback: Jinja compiles templates to frames with their lines."""
    line, trace = 0, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename in ("<template>", str(path)):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
