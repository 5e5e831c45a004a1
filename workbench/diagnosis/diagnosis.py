"""What a log says: regimes over training, how hard prompts are, what another G would buy.

Everything is counted on the groups of the log; predictions come from a Beta-binomial fit
(`workbench.stats.beta_binomial`) and carry its 95% intervals. Frames have the columns of
docs/columns.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recast import REGIMES
from recast.quoting import plain_line
from workbench.diagnosis.logs.groups import TOLERANCE, group_table, is_beam, without_repeats
from workbench.diagnosis.logs.hits import HitRule
from workbench.diagnosis.logs.read import Log
from workbench.diagnosis.logs.task_hits import hits_of
from workbench.errors import UserError
from workbench.stats.beta_binomial import BetaFit, fit_hit_counts

WINDOWS = 40
"""At most so many stretches of training in a table or chart."""

OTHER = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LATE = 1 / 3
"""Share of the steps, the last ones, that say how hard prompts are now."""


@dataclass(frozen=True)
class Diagnosis:
    """A log taken apart. rollouts: those that count, without batches logged twice (`repeats` are
    their steps); groups: as `group_table` gives; group: the usual G; beam: groups are beam sets;
    threshold: an outcome above it is a hit (infinite where nobody knows); rule: by which rule, and
    how sure."""

    log: Log
    rollouts: pl.DataFrame
    groups: pl.DataFrame
    repeats: list[int]
    group: int
    beam: bool
    threshold: float
    tolerance: float
    rule: HitRule

    @property
    def known(self) -> bool:
        """Whether hits can be counted; numbers that depend on them are left out where not."""
        return self.rule.known

    @property
    def steps(self) -> list[int]:
        """The steps that were logged, in order."""
        return sorted(self.groups["step"].unique().to_list())

    @property
    def tasks(self) -> list[str]:
        """Task names, most groups first."""
        counts = self.groups["task"].value_counts().sort("count", "task", descending=[True, False])
        return list(counts["task"])

    @property
    def shaped(self) -> bool:
        """Whether the log has a raw outcome besides the reward that was used."""
        if self.rule.rescaled and not self.log.reading.outcome_column:
            return False
        return bool((self.rollouts["reward"] != self.rollouts["outcome"]).any())

    @cached_property
    def late_fit(self) -> BetaFit:
        """The Beta-binomial of `late`'s hits."""
        return fit_of(self.late())

    def thirds(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """Those of the first and of the last third of the steps; None of fewer than three steps."""
        steps = self.steps
        third = len(steps) // 3
        if not third:
            return None
        step = pl.col("step")
        return rows.filter(step < steps[third]), rows.filter(step >= steps[-third])

    def late(self) -> pl.DataFrame:
        """The groups of the last third of the steps: how hard prompts are now."""
        steps = self.steps
        first = steps[len(steps) - max(1, round(LATE * len(steps)))]
        return self.groups.filter(pl.col("step") >= first)

    def late_hit_shares(self) -> NDArray[np.float64]:
        """The share of hits in each of `late`'s groups, `[N]`. Raises UserError where nobody knows
        what a hit is."""
        if not self.known:
            raise UserError(f"hits: {self.rule.words}")
        late = self.late()
        return (late["hits"] / late["size"]).to_numpy().astype(np.float64)

    def late_share(self, holds: pl.Expr) -> float:
        """The share of `late`'s groups of which something holds."""
        late = self.late()
        return late.filter(holds).height / late.height


def diagnose(log: Log, threshold: float | None = None, tolerance: float = TOLERANCE) -> Diagnosis:
    """Take a log apart; an outcome above the threshold is a hit, None to find out what is one."""
    rollouts, repeats = without_repeats(log)
    rollouts, rule = hits_of(rollouts, log.reading, threshold, tolerance)
    groups = group_table(rollouts, rule.threshold, tolerance)
    usual = groups["size"].mode().max()
    assert isinstance(usual, int)
    beam = is_beam(rollouts, groups)
    at = math.inf if rule.threshold is None else rule.threshold
    return Diagnosis(log, rollouts, groups, repeats, usual, beam, at, tolerance, rule)


def regime_table(found: Diagnosis) -> pl.DataFrame:
    """Regime shares overall and per task, over the whole log.

    Columns: task ("all" first), groups, rollouts, `REGIMES`, learnable (single-hit and multi-hit),
    constant (groups of equal rewards), pass_at_1, pass_at_g; means over groups of distinct
    predictions, entropy (per token) and logp (per rollout), nats, null where none is logged.
    """
    tasks = [name for name in found.tasks if name != "all"]
    parts = [("all", found.groups)]
    if tasks:
        parts += [(name, found.groups.filter(pl.col("task") == name)) for name in found.tasks]
    return _frame([{"task": name, **_shares(part)} for name, part in parts])


def over_training(found: Diagnosis, windows: int = WINDOWS) -> pl.DataFrame:
    """Regime shares over training: `regime_table`'s columns per stretch of steps and task.

    step: the first of the stretch. Stretches hold equally many logged steps.
    """
    steps = found.steps
    span = -(-len(steps) // windows)
    start = {step: steps[place // span * span] for place, step in enumerate(steps)}
    placed = found.groups.with_columns(
        window=pl.col("step").replace_strict(start, return_dtype=pl.Int64)
    )
    rows = []
    several = len(found.tasks) > 1
    for (window,), part in placed.group_by("window", maintain_order=True):
        rows.append({"step": window, "task": "all", **_shares(part)})
        for task in found.tasks if several else ():
            mine = part.filter(pl.col("task") == task)
            if not mine.is_empty():
                rows.append({"step": window, "task": task, **_shares(mine)})
    return _frame(rows).sort("step", maintain_order=True)


def _frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows of shares; those that nobody knows are null numbers."""
    frame = pl.DataFrame(rows)
    return frame.with_columns(pl.col(pl.Null).cast(pl.Float64))


def _shares(groups: pl.DataFrame) -> dict[str, Any]:
    count, rollouts = groups.height, int(groups["size"].sum())
    known = not groups["regime"].null_count()
    of = {
        name: int((groups["regime"] == name).sum()) / count if known else None for name in REGIMES
    }
    return {
        "groups": count,
        "rollouts": rollouts,
        **of,
        "learnable": int(groups["regime"].is_in(REGIMES[1:3]).sum()) / count if known else None,
        "constant": int(groups["constant"].sum()) / count,
        "pass_at_1": int(groups["hits"].sum()) / rollouts if known else None,
        "pass_at_g": int((groups["hits"] > 0).sum()) / count if known else None,
        "distinct": groups["distinct"].mean(),
        "entropy": groups["entropy"].mean(),
        "logp": groups["logp"].mean(),
    }


def fit_of(groups: pl.DataFrame) -> BetaFit:
    """The Beta-binomial of these groups' hits, which must be known."""
    return fit_hit_counts(groups["hits"].to_list(), groups["size"].to_list())


def predictions(found: Diagnosis, widths: Sequence[int] = OTHER) -> pl.DataFrame:
    """What another G would give, per task, from the last third of the steps.

    Columns: task, group, then value, *_low and *_high (95%) of all_zero, learnable, pass_at_g and
    cost (rollouts per learnable group; null where none is expected). Empty where groups are beam
    sets, or counts say nothing about another G.
    """
    rows: list[dict[str, Any]] = []
    if found.beam or not found.known:
        return pl.DataFrame(rows)
    late = found.late()
    tasks = found.tasks if len(found.tasks) > 1 else []
    for task in ["all", *tasks]:
        part = late if task == "all" else late.filter(pl.col("task") == task)
        if part.is_empty():
            continue
        fit = found.late_fit if task == "all" else fit_of(part)
        for width in widths if fit.predicts else ():
            rows.append({"task": task, "group": width, **prediction(fit, width)})
    return pl.DataFrame(rows)


def prediction(fit: BetaFit, width: int) -> dict[str, float | None]:
    """One row of `predictions`, without task and group."""
    regimes = fit.regimes(width)
    learnable, reach = fit.learnable(width), fit.pass_at(width)
    row: dict[str, float | None] = {}
    for name, said in (
        ("all_zero", regimes["all_zero"]),
        ("learnable", learnable),
        ("pass_at_g", reach),
    ):
        row |= {name: said.value, f"{name}_low": said.low, f"{name}_high": said.high}
    cost = [
        width / share if share > 0 else None
        for share in (learnable.value, learnable.high, learnable.low)
    ]
    return row | {"cost": cost[0], "cost_low": cost[1], "cost_high": cost[2]}


@dataclass(frozen=True)
class Change:
    """Means of two samples, and their difference in standard errors."""

    before: float
    after: float
    z: float


def change(before: pl.Series, after: pl.Series) -> Change:
    """Means of two samples and their difference in standard errors."""
    first, last = (part.cast(pl.Float64).to_numpy() for part in (before, after))
    error = math.sqrt(first.var() / len(first) + last.var() / len(last))
    gap = float(last.mean() - first.mean())
    z = gap / error if error > 0 else math.copysign(math.inf, gap) if gap else 0.0
    return Change(float(first.mean()), float(last.mean()), z)


def trend(found: Diagnosis) -> str:
    """Does Pass@1 move? One line; from the first third of the steps to the last."""
    if not found.known:
        return found.rule.words[:1].upper() + found.rule.words[1:] + "."
    ends = found.thirds(found.groups)
    if ends is None:
        return f"Pass@1 is {_shares(found.groups)['pass_at_1']:.2%}; too few steps for a trend."
    moved = change(*(part["hits"] / part["size"] for part in ends))
    words = "rises" if moved.z > 3 else "falls" if moved.z < -3 else "does not move beyond chance"
    return (
        f"Pass@1 {words}: {moved.before:.2%} in the first third of the steps, {moved.after:.2%} in "
        "the last."
    )


def summary_line(found: Diagnosis) -> str:
    """What was read, in one line."""
    steps = found.steps
    kind = "beam sets" if found.beam else "independent rollouts"
    sampled = "" if found.log.kept == 1 else f" (a sample of {found.log.kept:.1%} of its groups)"
    return (
        f"{found.log.form} log{sampled}: {found.groups.height:,} groups of usually {found.group} "
        f"{kind}, {len(steps):,} steps from {steps[0]} to {steps[-1]}; {found.log.words}"
    )


def read_lines(found: Diagnosis) -> list[str]:
    """By which rules the log was read, one line each: what a hit is, and whatever was decided about
    groups and rows."""
    reading, lines = found.log.reading, []
    if found.known:
        lines.append(found.rule.words)
    if reading.standing_in:
        lines.append(
            f"where {plain_line(reading.outcome_column, 40)} abstained, another function judged: "
            f"{', '.join(plain_line(name, 40) for name in reading.standing_in)}"
        )
    if reading.unjudged:
        every = found.groups.height + reading.unjudged
        lines.append(
            f"in {reading.unjudged:,} of {every:,} groups ({reading.unjudged / every:.1%}) nothing "
            f"judged the outcome (the function returned None): they are left out"
        )
    return lines + list(reading.notes)
