"""What training did step by step: one number per step and quantity, of rollouts or of scalars.

Checks on a trend look at these curves alone, so they say the same of a log of rollouts and of a
tracker's scalars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings.cut_off import truncated, unended
from workbench.diagnosis.logs.groups import aggregated

Floats = npt.NDArray[np.float64]

Z = 1.959963984540054
"""The normal quantile of a 95% interval."""

SHORT = 10
"""Steps below which a trend is not looked for."""

TAIL = 0.1
"""Share of the steps, the last ones, that say how a run ends."""


@dataclass(frozen=True)
class Curve:
    """Values `[S]` at steps `[S]`, ascending; both finite."""

    step: Floats
    value: Floats

    def __len__(self) -> int:
        return len(self.step)

    def first(self, share: float = 1 / 3) -> Floats:
        """The values of the first steps: three at least, if there are so many."""
        return self.value[: max(3, round(share * len(self)))]

    def last(self, share: float = TAIL) -> Floats:
        """The values of the last steps: three at least, if there are so many."""
        return self.value[-max(3, round(share * len(self))) :]


Curves = Mapping[str, Curve]
"""Curves by quantity. reward, outcome (means; outcome is the share of hits where hits are known);
entropy (nats per token); kl (nats); length (tokens, else characters); truncated, unended (they look
cut off), repetition, clipped, zero_spread (shares); mismatch (mean size of the log-prob difference
per token, nats); lag (steps between sampling and training); eval (an evaluation's score);
grad_norm."""

COLUMNS = ("reward", "entropy", "kl", "repetition", "mismatch", "clipped", "lag")


def curve(step: npt.ArrayLike, value: npt.ArrayLike) -> Curve:
    """A curve of unordered values with gaps."""
    steps, values = np.asarray(step, np.float64), np.asarray(value, np.float64)
    there = np.isfinite(steps) & np.isfinite(values)
    order = np.argsort(steps[there], kind="stable")
    return Curve(steps[there][order], values[there][order])


def curves_of(found: Diagnosis) -> dict[str, Curve]:
    """The means per step of what a log of rollouts holds."""
    rows = found.rollouts
    named = [name for name in COLUMNS if name in rows.columns and rows[name].count()]
    steps = aggregated(
        rows,
        ("step",),
        **{name: pl.col(name).cast(pl.Float64).mean() for name in named},
        length=_length(rows).mean(),
        truncated=truncated(found).mean(),
        unended=unended(found).mean(),
    ).sort("step")
    groups = (
        found.groups.filter(pl.col("size") > 1)
        .group_by("step")
        .agg(
            zero_spread=pl.col("constant").mean(),
            outcome=(pl.col("hits").sum() / pl.col("size").sum()),
        )
        .sort("step")
    )
    made = {
        name: curve(table["step"].to_numpy(), table[name].cast(pl.Float64).to_numpy())
        for table, names in (
            (steps, [*named, "length", "truncated", "unended"]),
            (groups, ["zero_spread", "outcome"]),
        )
        for name in names
    }
    if not found.known:
        del made["outcome"]
    return {name: one for name, one in made.items() if len(one)}


def _length(rows: pl.DataFrame) -> pl.Expr:
    if rows["tokens"].count():
        return pl.col("tokens").cast(pl.Float64)
    if rows["chars"].count():
        return pl.col("chars").cast(pl.Float64)
    return pl.lit(None, pl.Float64)


def joined(one: Curve, other: Curve) -> tuple[Curve, Curve]:
    """Two curves at the steps that both have."""
    both, mine, theirs = np.intersect1d(one.step, other.step, return_indices=True)
    return Curve(both, one.value[mine]), Curve(both, other.value[theirs])


class Moved(NamedTuple):
    """Means of the first third and of the last steps, their difference in standard errors."""

    before: float
    after: float
    z: float


def moved(one: Curve, tail: float = 1 / 3) -> Moved:
    """How a curve ends against how it began; steps count as independent draws."""
    first, last = one.first(), one.last(tail)
    error = float(np.sqrt(first.var(ddof=1) / len(first) + last.var(ddof=1) / len(last)))
    gap = float(last.mean() - first.mean())
    z = gap / error if error > 0 else float(np.sign(gap)) * np.inf if gap else 0.0
    return Moved(float(first.mean()), float(last.mean()), z)


class Trend(NamedTuple):
    """A slope per step and its 95% interval."""

    value: float
    low: float
    high: float


def slope(one: Curve) -> Trend:
    """Theil and Sen's slope: the median over pairs of steps, at most 500 steps evenly spaced; not a
    number where no two steps differ. The interval is Sen's (1968, equation 2.6), ties included.
    """
    every = max(1, -(-len(one) // 500))
    step, value = one.step[::every], one.value[::every]
    apart = step[:, None] - step
    later = apart > 0
    slopes = np.sort((value[:, None] - value)[later] / apart[later])
    pairs, count = len(slopes), len(value)
    if not pairs:
        return Trend(np.nan, np.nan, np.nan)
    variance = (_orders(np.array([count])) - _orders(_ties(step)) - _orders(_ties(value))) / 18
    # Below nothing where steps and values are tied both: then the interval is all slopes.
    reach = Z * np.sqrt(variance) if variance >= 0 else pairs
    low = max(round((pairs - reach) / 2) - 1, 0)
    high = min(round((pairs + reach) / 2), pairs - 1)
    return Trend(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))


def order(one: Curve) -> float:
    """Kendall's score of values against steps in standard errors: 0 where there is no trend."""
    later = one.step[:, None] > one.step
    score = float(np.sign(one.value[:, None] - one.value)[later].sum())
    sizes = (np.array([len(one)]), _ties(one.step), _ties(one.value))
    variance = (_orders(sizes[0]) - _orders(sizes[1]) - _orders(sizes[2])) / 18
    return score / float(np.sqrt(variance)) if variance > 0 else 0.0


def _ties(values: Floats) -> npt.NDArray[np.int64]:
    """How often each value occurs that occurs more than once."""
    counts = np.unique(values, return_counts=True)[1]
    return np.asarray(counts[counts > 1], np.int64)


def _orders(sizes: npt.NDArray[np.int64]) -> float:
    """What runs of so many values add to 18 times the variance of Kendall's score."""
    return float((sizes * (sizes - 1) * (2 * sizes + 5)).sum())


def arrival(one: Curve, level: float) -> tuple[float, float, float] | None:
    """The step at which a curve reaches a level if it goes on as in its last half, with the range
    that the slope's interval allows (infinite where that does not go there); None where it does
    not go there. The curve and the level are positive: the slope is that of the logarithm.
    """
    half = Curve(one.step[len(one) // 2 :], np.log(np.maximum(one.value[len(one) // 2 :], 1e-9)))
    if len(half) < 5 or level <= 0:
        return None
    rate = slope(half)
    now, goal = float(np.median(half.value[-max(3, len(half) // 5) :])), float(np.log(level))
    way = goal - now
    if way == 0 or rate.value * way <= 0:
        return None
    at = [way / r if r * way > 0 else np.inf for r in (rate.value, rate.low, rate.high)]
    end = float(one.step[-1])
    return end + at[0], end + min(at), end + max(at)
