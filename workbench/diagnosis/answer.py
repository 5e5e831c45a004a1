"""What is wrong with a run, and what would help: one screen, the same in terminal and page.

What was read and by which rule; what is wrong, in order of weight, and what to do; what another G
or strategy would buy, with 95% intervals; what could not be checked, and which column it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from workbench.diagnosis.counterfactual import Logged, counterfactual
from workbench.diagnosis.diagnosis import (
    Diagnosis,
    predictions,
    read_lines,
    summary_line,
    trend,
)
from workbench.diagnosis.findings import Examined, examine
from workbench.diagnosis.findings.finding import Finding, Unchecked
from workbench.diagnosis.findings.scalars import ScalarRun, prediction_table
from workbench.diagnosis.logs.groups import TEACHES
from workbench.diagnosis.savings import best_group, savings, smallest_group
from workbench.stats.beta_binomial import BetaFit, binomial_share

SHOWN = (2, 4, 8, 16, 32, 64)
"""Other G in the first screen."""


@dataclass(frozen=True)
class DiagnosisSummary:
    """One screen. read: lines, the first one the summary; findings in order of weight; buys: lines
    with intervals; unchecked: checks by the column they want."""

    read: tuple[str, ...]
    findings: tuple[Finding, ...]
    buys: tuple[str, ...]
    unchecked: tuple[Unchecked, ...]

    @property
    def verdict(self) -> str:
        """How many problems and notes there are, in words."""
        problems = sum(one.level == "problem" for one in self.findings)
        notes = len(self.findings) - problems
        if not self.findings:
            return "Nothing that is looked for is wrong with this log."
        said = [f"{problems} problem{'s' * (problems != 1)}"] * bool(problems)
        said += [f"{notes} note{'s' * (notes != 1)}"] * bool(notes)
        return " and ".join(said) + (", the weightiest first." if problems > 1 else ".")

    def lines(self) -> list[str]:
        """The screen as plain text."""
        out = [*self.read, "", f"WHAT IS WRONG: {self.verdict}"]
        for one in self.findings:
            out += [f"{one.level}: {one.name}", f"  {one.says}", f"  Do: {one.do}"]
        if self.buys:
            out += ["", "WHAT IT WOULD BUY (95% intervals)", *(f"  {line}" for line in self.buys)]
        if self.unchecked:
            out += ["", f"NOT CHECKED, for want of: {self.wanting}."]
        return out

    @property
    def wanting(self) -> str:
        """The columns that are missing, each with the checks that want it."""
        return "; ".join(f"{one.column} ({', '.join(one.names)})" for one in self.unchecked)


def answer(
    found: Diagnosis,
    strategies: Sequence[str],
    share: float,
    said: Examined | None = None,
    tensors: Logged | None = None,
) -> DiagnosisSummary:
    """The answer to a log of rollouts. share: learnable groups that G should reach."""
    said = said or examine(found)
    read = [summary_line(found), *(f"{line[0].upper()}{line[1:]}." for line in read_lines(found))]
    if said.audit is not None and said.audit.words:
        read.append(f"{said.audit.words[0].upper()}{said.audit.words[1:]}.")
    # The finding says at length what the trend would say again.
    unknown = any(one.name == "no_raw_outcome" for one in said.findings)
    read.append("Hits are not counted: see no_raw_outcome." if unknown else trend(found))
    return DiagnosisSummary(
        tuple(read),
        said.findings,
        tuple(_buys(found, strategies, share, tensors)),
        said.unchecked,
    )


def answer_of_scalars(run: ScalarRun, share: float) -> DiagnosisSummary:
    """The answer to a tracker's scalars."""
    said = run.examined
    buys = []
    if run.fit is not None and run.fit.predicts and run.group is not None:
        now = run.fit.learnable(run.group)
        buys.append(
            f"now, G = {run.group}: {_share(now.value, now.low, now.high)} of the groups learnable "
            "(from the mean reward and the share of equal groups, taking rewards as 0 or 1)"
        )
        buys += _other_widths(prediction_table(run, SHOWN), run.group)
        buys.append(_smallest(run.fit, share))
    elif run.why:
        buys.append(run.why)
    return DiagnosisSummary((run.scalars.words + ".",), said.findings, tuple(buys), said.unchecked)


def _buys(
    found: Diagnosis, strategies: Sequence[str], share: float, tensors: Logged | None
) -> list[str]:
    if not found.known:
        return [best_group(found, share)]
    late = found.late()
    teaches = binomial_share(late.filter(TEACHES).height, late.height)
    lines = [
        f"now, G = {found.group}: {_share(teaches.value, teaches.low, teaches.high)} of the groups "
        "of the last third learnable"
    ]
    lines += _other_widths(predictions(found, SHOWN), found.group)
    lines.append(best_group(found, share))
    costs = [
        f"{row['how']} {_cost(row['cost'], row['cost_low'], row['cost_high'])}"
        for row in savings(found).iter_rows(named=True)
        if row["how"] != "drop rollouts without advantage" and row["cost"] is not None
    ]
    if costs:
        lines.append(f"rollouts per learnable group: {'; '.join(costs)}")
    replayed = counterfactual(found, strategies, tensors)
    if "learnable" in replayed.columns:
        rows = replayed.filter(pl.col("learnable").is_not_null())
        shares = [f"{row['strategy']} {row['learnable']:.0%}" for row in rows.iter_rows(named=True)]
        if shares:
            lines.append(
                f"the same groups under other strategies, share with a signal: {', '.join(shares)}"
            )
    return lines


def _other_widths(table: pl.DataFrame, now: int) -> list[str]:
    if table.is_empty():
        return []
    rows = table.filter((pl.col("task") == "all") & (pl.col("group") != now))
    names = ("learnable", "learnable_low", "learnable_high")
    said = [
        f"G = {row['group']}: {_share(*(row[name] for name in names))}"
        for row in rows.iter_rows(named=True)
    ]
    return [f"another G would make learnable: {'; '.join(said)}"]


def _smallest(fit: BetaFit, share: float) -> str:
    return smallest_group(fit, share).words


def _share(value: float, low: float, high: float) -> str:
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"


def _cost(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{value:.1f}"
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"
