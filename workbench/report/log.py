"""A diagnosis as one self-contained HTML file: findings, tables, charts and their data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from workbench import charts
from workbench.diagnosis.answer import answer, answer_of_scalars
from workbench.diagnosis.counterfactual import counterfactual
from workbench.diagnosis.diagnosis import (
    OTHER,
    Diagnosis,
    over_training,
    predictions,
    regime_table,
)
from workbench.diagnosis.findings.scalars import ScalarRun, prediction_table
from workbench.diagnosis.findings.table import table_of
from workbench.diagnosis.logs.groups import TEACHES
from workbench.diagnosis.savings import again, savings
from workbench.report.figures import Figure
from workbench.report.html import Report, write_report

COMMAND = "recast diagnose PATH"


def write_log_report(
    found: Diagnosis, strategies: Sequence[str], share: float, target: Path, refresh: int = 0
) -> None:
    """Write the HTML file, whole or not at all. share: learnable groups that G should reach;
    refresh: seconds after which a browser loads it again, 0 for never.

    Raises UserError when vl-convert-python is missing, DiskError when the disk refuses.
    """
    said = answer(found, strategies, share)
    training, other = over_training(found), predictions(found)
    what_if = counterfactual(found, strategies)
    tables = [
        ("What is wrong?", table_of(said.findings), "findings"),
        ("How many groups can teach anything?", regime_table(found), "regimes"),
        ("What does one learnable group cost?", savings(found), "savings"),
        ("Is a constant group constant at its prompt's next visit?", again(found), "again"),
    ]
    figures = [_figure("regimes", charts.logged_regimes(training), training, "training")]
    if not other.is_empty():
        whole = other.filter(pl.col("task") == "all")
        late = found.late()
        teaching = late.filter(TEACHES).height
        chart = charts.other_widths(whole, found.group, teaching / late.height)
        figures.append(_figure("other-g", chart, whole, "predictions"))
    if "learnable" in what_if.columns and what_if["learnable"].count():
        figures.append(_figure("what-if", charts.what_if(what_if), what_if, "strategies"))
    lines = [*found.log.problems.lines(), *said.read[1:], *said.buys]
    if said.unchecked:
        lines.append(f"Not checked, for want of: {said.wanting}.")
    write_report(
        Report(
            f"{said.read[0]}. {said.verdict.removesuffix('.')}",
            lines,
            [(title, rows, f"{COMMAND} --table {name}") for title, rows, name in tables],
            figures,
            heading="What is wrong with this run, and what would help?",
            scope="Everything here is counted in the log, or predicted from it with 95% intervals.",
            refresh=refresh,
        ),
        target,
    )


def write_scalar_report(run: ScalarRun, share: float, target: Path, refresh: int = 0) -> None:
    """Write the HTML file of a tracker's scalars, whole or not at all: findings, what another G
    would give, and how each quantity began and ended; refresh as above.

    Raises UserError when vl-convert-python is missing, DiskError when the disk refuses.
    """
    said = answer_of_scalars(run, share)
    tables = [
        ("What is wrong?", table_of(said.findings), f"{COMMAND} --table findings"),
        ("What did training do?", _ends(run), COMMAND),
    ]
    other = prediction_table(run, OTHER)
    figures = []
    if not other.is_empty() and run.fit is not None and run.group is not None:
        chart = charts.other_widths(other, run.group, run.fit.learnable(run.group).value)
        figures.append(_figure("other-g", chart, other, "predictions"))
    lines = [*run.scalars.problems.lines(), *said.buys]
    if said.unchecked:
        lines.append(f"Not checked, for want of: {said.wanting}.")
    write_report(
        Report(
            f"{said.read[0].removesuffix('.')}. {said.verdict.removesuffix('.')}",
            lines,
            tables,
            figures,
            heading="What is wrong with this run, and what would help?",
            scope="Everything here is read from the run's scalars, or predicted from them with 95% "
            "intervals.",
            refresh=refresh,
        ),
        target,
    )


def _ends(run: ScalarRun) -> pl.DataFrame:
    """One row per quantity: its steps, its mean in their first third and in the last tenth."""
    rows = [
        {"what": name, "steps": len(one), "early": float(one.first().mean()),
         "end": float(one.last().mean())}
        for name, one in run.curves.items()
    ]  # fmt: skip
    return pl.DataFrame(rows)


def _figure(key: str, chart: charts.Chart, rows: pl.DataFrame, table: str) -> Figure:
    return Figure(key, chart, rows, f"{COMMAND} --table {table}")
