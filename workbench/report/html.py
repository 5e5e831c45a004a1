"""One self-contained HTML file: verdicts, every chart with its data and its command, no network.

Vega and its libraries are inlined once; a content policy forbids any request. Whatever comes from a
store or a user is escaped. Charts also export to PNG, SVG and PDF. Needs vl-convert-python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import altair as alt
import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from workbench.charts.picture import picture
from workbench.errors import UserError
from workbench.report.figures import Figure
from workbench.store.files import replace
from workbench.version import version

Format = Literal["png", "svg", "pdf"]
FORMATS: tuple[Format, ...] = ("png", "svg", "pdf")
_VEGALITE = ".".join(alt.VEGALITE_VERSION.split(".")[:2])
_IN_SIGHT = 8
"""Cautions that stand in sight; the rest is one click away."""


@dataclass(frozen=True)
class Report:
    """Everything a report says. source: where the runs came from; cautions: what to know first;
    tables: title, rows and the command that prints them; heading, scope: the question that it
    answers, and what its numbers are; summary: the answer in a sentence; folded: more tables, one
    click away; refresh: seconds after which a browser loads the file again, 0 for never."""

    source: str
    cautions: Sequence[str]
    tables: Sequence[tuple[str, pl.DataFrame, str]]
    figures: Sequence[Figure]
    heading: str = "What of ReCast's claims holds up, and where?"
    scope: str = (
        "Everything here is measured on small policies in a simulator; nothing is quoted from the "
        "paper but its own figures."
    )
    summary: str = ""
    folded: Sequence[tuple[str, pl.DataFrame, str]] = ()
    refresh: int = 0


def write_report(report: Report, path: Path) -> None:
    """Write the HTML file, whole or not at all.

    Raises UserError when vl-convert-python is missing, DiskError when the disk refuses.
    """
    replace(page(report).encode(), path)


def page(report: Report) -> str:
    """The HTML text, every value in it escaped. Raises UserError when vl-convert-python is
    missing."""
    bundle = _converter().javascript_bundle(vl_version=_VEGALITE)
    specs = {
        f"chart-{place}": figure.chart.to_dict() for place, figure in enumerate(report.figures)
    }
    parts: dict[str, list[tuple[str, dict[str, Any], Figure]]] = {}
    for (name, spec), figure in zip(specs.items(), report.figures, strict=True):
        parts.setdefault(figure.part, []).append((name, spec, figure))
    return _template().render(
        report=report,
        version=version(),
        in_sight=_IN_SIGHT,
        parts=parts,
        specs=specs,
        bundle=Markup(bundle.replace("</script", "<\\/script")),
    )


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    found = Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=StrictUndefined)
    found.filters["cell"] = _lines
    found.policies["json.dumps_kwargs"] = {"default": str}
    return found.get_template("report.html.j2")


def export_charts(
    found: Sequence[Figure], folder: Path, formats: Sequence[Format] = FORMATS
) -> list[Path]:
    """Write each chart in each format to `folder/<key>.<format>`; returns the files.

    Raises UserError when vl-convert-python is missing, DiskError when the disk refuses.
    """
    written = []
    for figure in found:
        for kind in formats:
            target = folder / f"{figure.key}.{kind}"
            try:
                replace(picture(figure.chart, kind), target)
            except RuntimeError as problem:
                raise UserError(f"report: {problem}") from None
            written.append(target)
    return written


def _converter() -> ModuleType:
    try:
        import vl_convert
    except ImportError:
        raise UserError(
            "report: charts need vl-convert-python, which is not installed; "
            "pip install vl-convert-python"
        ) from None
    return vl_convert


def _lines(value: object) -> list[str]:
    """A cell as lines of text; " | " starts a new one."""
    if value is None:
        return []
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.split(" | ")
