"""One self-contained HTML file: verdicts, every chart with its data and its command, no network.

Vega and its libraries are inlined once; a content policy forbids any request. Whatever comes from a
store or a user is escaped. Charts also export to PNG, SVG and PDF. Needs vl-convert-python.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import altair as alt
import polars as pl

from workbench.charts.picture import picture
from workbench.errors import UserError
from workbench.report.figures import Figure
from workbench.store.files import replace
from workbench.version import version

Format = Literal["png", "svg", "pdf"]
FORMATS: tuple[Format, ...] = ("png", "svg", "pdf")
_VEGALITE = ".".join(alt.VEGALITE_VERSION.split(".")[:2])
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:"
)
_IN_SIGHT = 8
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 88rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; font-size: 0.85rem; }
th, td { border-bottom: 1px solid #d0d0d0; padding: 0.3rem 0.6rem; text-align: left;
         vertical-align: top; }
.scroll { overflow-x: auto; }
details .scroll { max-height: 30rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(34rem, 1fr));
          gap: 1rem 2rem; align-items: start; }
nav ol { columns: 2; }
.caution { border-left: 4px solid #b35900; padding-left: 0.8rem; }
figure { margin: 1rem 0; overflow-x: auto; }
figcaption, .note { color: #444; font-size: 0.9rem; }
code { background: #f2f2f2; padding: 0.1rem 0.3rem; }
td.verdict { font-weight: 600; white-space: nowrap; }
"""


@dataclass(frozen=True)
class Report:
    """Everything a report says. source: where the runs came from; cautions: what to know first;
    tables: title, rows and the command that prints them; heading, scope: the question that it
    answers, and what its numbers are; summary: the answer in a sentence; folded: more tables, one
    click away."""

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


def write_report(report: Report, path: Path) -> None:
    """Write the HTML file, whole or not at all.

    Raises UserError when vl-convert-python is missing, DiskError when the disk refuses.
    """
    replace(page(report).encode(), path)


def page(report: Report) -> str:
    """The HTML text. Raises UserError when vl-convert-python is missing."""
    bundle = _converter().javascript_bundle(vl_version=_VEGALITE)
    specs = {
        f"chart-{place}": figure.chart.to_dict() for place, figure in enumerate(report.figures)
    }
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(report.heading)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{html.escape(report.heading)}</h1>",
            f'<p class="note">{html.escape(report.source)}. recast-workbench '
            f"{html.escape(version())}. {html.escape(report.scope)}</p>",
            f"<p><strong>{html.escape(report.summary)}</strong></p>" if report.summary else "",
            _cautions(report.cautions),
            _contents(report),
            *(_table_section(place, *table) for place, table in enumerate(report.tables)),
            *(_folded(*table) for table in report.folded),
            *_sections(report.figures),
            f"<script>{_script_safe(bundle)}</script>",
            f'<script id="specs" type="application/json">{_json(specs)}</script>',
            "<script>",
            "for (const [id, spec] of Object.entries(JSON.parse(",
            '    document.getElementById("specs").textContent))) {',
            '  vegaEmbed("#" + id, spec, {renderer: "svg", actions:',
            "    {export: true, source: false, compiled: false, editor: false}});",
            "}",
            "</script></body></html>",
        )
    )


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


def _cautions(texts: Sequence[str]) -> str:
    """The first ones in sight, the rest one click away."""
    if not texts:
        return ""
    items = [f"<li>{html.escape(text)}</li>" for text in texts]
    shown, rest = items[:_IN_SIGHT], items[_IN_SIGHT:]
    more = (
        f"<details><summary>{len(rest)} more</summary><ul>{''.join(rest)}</ul></details>"
        if rest
        else ""
    )
    return f'<div class="caution"><h2>Read this first</h2><ul>{"".join(shown)}</ul>{more}</div>'


def _contents(report: Report) -> str:
    parts = dict.fromkeys(figure.part for figure in report.figures if figure.part)
    links = [
        *((f"table-{place}", title) for place, (title, _, _) in enumerate(report.tables)),
        *((f"part-{place}", title) for place, title in enumerate(parts)),
    ]
    items = "".join(f'<li><a href="#{name}">{html.escape(title)}</a></li>' for name, title in links)
    return f"<nav><ol>{items}</ol></nav>"


def _sections(figures: Sequence[Figure]) -> list[str]:
    """Every figure, under the heading of its part."""
    drawn: dict[str, list[str]] = {}
    for place, figure in enumerate(figures):
        drawn.setdefault(figure.part, []).append(_figure(f"chart-{place}", figure))
    return [
        (f'<h2 id="part-{place}">{html.escape(part)}</h2>' if part else "")
        + f'<div class="charts">{"".join(charts)}</div>'
        for place, (part, charts) in enumerate(drawn.items())
    ]


def _figure(name: str, figure: Figure) -> str:
    description = html.escape(str(figure.chart.to_dict().get("description", "")))
    return (
        f'<figure id="{html.escape(figure.key)}"><div id="{name}" role="img" '
        f'aria-label="{description}"></div>'
        f"<figcaption>{html.escape(figure.note)}{_again(figure.command)}</figcaption>"
        f"<details><summary>Data: {figure.data.height} rows</summary>"
        f"{_table(figure.data)}</details></figure>"
    )


def _again(command: str) -> str:
    """The command that prints it; nothing where a hand chose what is shown."""
    return f" Again: <code>{html.escape(command)}</code>" if command else ""


def _table_section(place: int, title: str, table: pl.DataFrame, command: str) -> str:
    return (
        f'<section><h2 id="table-{place}">{html.escape(title)}</h2>{_table(table)}'
        f'<p class="note">{_again(command)}</p></section>'
    )


def _folded(title: str, table: pl.DataFrame, command: str) -> str:
    return (
        f"<details><summary>{html.escape(title)} {table.height} rows</summary>{_table(table)}"
        f'<p class="note">{_again(command)}</p></details>'
    )


def _table(table: pl.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=verdict' if name == 'verdict' else ''}>{_cell(value)}</td>"
            for name, value in row.items()
        )
        + "</tr>"
        for row in table.iter_rows(named=True)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _cell(value: object) -> str:
    """Escaped; " | " starts a new line."""
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return html.escape(text).replace(" | ", "<br>")


def _json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, default=str).replace("<", "\\u003c")


def _script_safe(source: str) -> str:
    return source.replace("</script", "<\\/script")
