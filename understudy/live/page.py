"""An audit as one HTML file that needs nothing else."""

from __future__ import annotations

from ..jinja import render as render_template
from .judge import human
from .report import GRADES, Report
from .show import WORD, short


def render(report: Report) -> str:
    """The page. Everything is escaped: names on a host are not ours."""
    return render_template(
        "live/audit.html.j2",
        report=report,
        human=human,
        short=short,
        word=WORD,
        order=lambda places: sorted(places, key=lambda place: GRADES.index(place.grade)),
        totals={
            grade: (len(report.of(grade)), sum(p.bytes or 0 for p in report.of(grade))) for grade in GRADES
        },
    )
