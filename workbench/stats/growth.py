"""Forecasts of a learning curve's end from its beginning.

A form is a shape f(c) of the budget c with f(0) = 0; a curve is y0 + a f(c), y0 and a by least
squares, the shape's own numbers from a grid. `sigmoid` is ScaleRL's (arXiv 2510.13786): f = 1 / (1
+ (m / c)^B). What lies beyond the last point is shrunk towards it, by a share that is chosen like
the form is: on finished runs, of which half choose and half judge.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from workbench.stats.samples import Floats

Shape = Callable[[Floats], Floats]
FEWEST_POINTS = 4
FEW = 12
SHRINKAGES = (0.0, 0.25, 0.5, 0.75, 1.0)
_TIMES = 10.0 ** np.linspace(-1.5, 1.0, 11)


def _sigmoid(c: Floats, middle: float, steep: float) -> Floats:
    found: Floats = 1 / (1 + (middle / np.maximum(c, 1e-12 * middle)) ** steep)
    return found


def _exponential(c: Floats, time: float) -> Floats:
    found: Floats = -np.expm1(-c / time)
    return found


def _power(c: Floats, exponent: float, end: float) -> Floats:
    found: Floats = (c / end) ** exponent
    return found


def _logarithm(c: Floats, time: float) -> Floats:
    found: Floats = np.log1p(c / time)
    return found


def _sigmoids(end: float) -> list[Shape]:
    pairs = itertools.product(end * _TIMES, (0.5, 1.0, 2.0, 4.0))
    return [partial(_sigmoid, middle=float(m), steep=b) for m, b in pairs]


def _exponentials(end: float) -> list[Shape]:
    return [partial(_exponential, time=float(m)) for m in end * _TIMES]


def _powers(end: float) -> list[Shape]:
    return [partial(_power, exponent=b, end=end) for b in (0.2, 0.35, 0.5, 0.7, 1.0)]


def _logarithms(end: float) -> list[Shape]:
    return [partial(_logarithm, time=float(m)) for m in end * _TIMES]


FORMS: Mapping[str, Callable[[float], list[Shape]]] = {
    "sigmoid": _sigmoids,
    "exponential": _exponentials,
    "power": _powers,
    "logarithm": _logarithms,
}


@dataclass(frozen=True)
class BudgetCurve:
    """A finished run: budgets `[n]`, rising from 0, and values `[n]`. group: whose siblings are
    kept on one side when runs choose and judge."""

    budgets: Floats
    values: Floats
    group: str = ""

    def first(self, share: float) -> BudgetCurve:
        """Its beginning: the points up to this share of its budget."""
        kept = self.budgets <= share * self.budgets[-1] + 1e-9
        return BudgetCurve(self.budgets[kept], self.values[kept], self.group)


def extrapolate(seen: BudgetCurve, at: Floats, form: str, shrinkage: float) -> Floats:
    """Expected values at further budgets `[m]`; `at` lies beyond the last seen budget.

    Raises ValueError below `FEWEST_POINTS` points.
    """
    if len(seen.budgets) < FEWEST_POINTS:
        raise ValueError(f"curve: {len(seen.budgets)} points; expected {FEWEST_POINTS} or more")
    best, shape = np.inf, None
    for f in FORMS[form](float(seen.budgets[-1])):
        basis = np.stack([np.ones_like(seen.budgets), f(seen.budgets)], 1)
        fit, *_ = np.linalg.lstsq(basis, seen.values, rcond=None)
        error = float(((basis @ fit - seen.values) ** 2).sum())
        if error < best - 1e-15:
            best, shape, kept = error, f, fit
    assert shape is not None
    last = float(kept[0] + kept[1] * shape(seen.budgets[-1:])[0])
    anchor = (float(seen.values[-1]) + last) / 2  # half of the last point's noise is believed
    found: Floats = anchor + shrinkage * (kept[0] + kept[1] * shape(at) - last)
    return found


def scale_of(seen: BudgetCurve) -> float:
    """What errors are measured in: the range of the seen values, at least their steps' noise."""
    steps = np.diff(seen.values)
    return max(float(np.ptp(seen.values)), float(steps.std()), 1e-9)


@dataclass(frozen=True)
class Forecaster:
    """form and shrinkage that were chosen; errors `[k]`: of the choosing runs, actual less what the
    form gave, in units of `scale_of`, sorted. Its forecasts add the median error."""

    form: str
    shrinkage: float
    errors: Floats
    share: float

    def end(self, seen: BudgetCurve, budget: float) -> tuple[float, float, float]:
        """Value at a budget with its 90% interval: forecast, low, high."""
        given = self._given(seen, budget)
        low, high = self._bounds()
        size = scale_of(seen)
        return given + self._median() * size, given + low * size, given + high * size

    def chance(self, seen: BudgetCurve, budget: float, target: float) -> float:
        """Probability that the value at a budget is at least a target: the share of the choosing
        runs' errors that would carry it there, never quite 0 or 1."""
        given = self._given(seen, budget)
        above = int((given + self.errors * scale_of(seen) >= target).sum())
        return (above + 0.5) / (len(self.errors) + 1)

    def budget_to(
        self, seen: BudgetCurve, budget: float, target: float
    ) -> tuple[float | None, float | None, float | None]:
        """Budget at which a target is reached, and its 90% interval: expected, earliest, latest;
        None where it is not reached up to `budget`."""
        grid = np.linspace(float(seen.budgets[-1]), budget, 101)[1:]
        path = extrapolate(seen, grid, self.form, self.shrinkage)
        low, high = self._bounds()
        gone = (grid - seen.budgets[-1]) / (budget - seen.budgets[-1])
        size = scale_of(seen)
        if bool((seen.values >= target).any()):
            when = float(seen.budgets[int(np.argmax(seen.values >= target))])
            return when, when, when

        def first(values: Floats) -> float | None:
            above = values >= target
            return float(grid[int(np.argmax(above))]) if bool(above.any()) else None

        return (
            first(path + self._median() * size * gone),
            first(path + high * size * gone),
            first(path + low * size * gone),
        )

    def _given(self, seen: BudgetCurve, budget: float) -> float:
        return float(extrapolate(seen, np.array([budget]), self.form, self.shrinkage)[0])

    def _median(self) -> float:
        return float(np.median(self.errors))

    def _bounds(self) -> tuple[float, float]:
        """5% and 95% of the errors, one run outwards: what a further run exceeds in one of ten."""
        n = len(self.errors)
        out = int(np.floor(0.05 * (n + 1))) - 1
        return float(self.errors[max(out, 0)]), float(self.errors[min(n - 1 - out, n - 1)])


@dataclass(frozen=True)
class Forecasters:
    """One for curves that have risen so far, one for those that have not."""

    rising: Forecaster
    falling: Forecaster

    def of(self, seen: BudgetCurve) -> Forecaster:
        """The one for a beginning."""
        return self.rising if rises(seen) else self.falling


def rises(seen: BudgetCurve) -> bool:
    """Whether the last value seen is above the first."""
    return bool(seen.values[-1] > seen.values[0])


def choose(runs: Sequence[BudgetCurve], share: float) -> Forecasters:
    """For rising and for other beginnings, the form and shrinkage with the least median error of
    the runs' ends, and its errors; where one kind has fewer than `FEW`, all runs choose.

    Raises ValueError without runs.
    """
    kinds = [[run for run in runs if rises(run.first(share)) == up] for up in (True, False)]
    return Forecasters(*(_chosen(mine if len(mine) >= FEW else runs, share) for mine in kinds))


def _chosen(runs: Sequence[BudgetCurve], share: float) -> Forecaster:
    best: tuple[float, Forecaster] | None = None
    for form in FORMS:
        for shrinkage in SHRINKAGES:
            errors = np.sort(np.array([error_of(run, share, form, shrinkage) for run in runs]))
            median = float(np.median(np.abs(errors - np.median(errors))))
            if best is None or median < best[0] - 1e-12:
                best = (median, Forecaster(form, shrinkage, errors, share))
    if best is None:
        raise ValueError("runs: expected one or more to choose by")
    return best[1]


def error_of(run: BudgetCurve, share: float, form: str, shrinkage: float) -> float:
    """Actual less forecast of a run's end, in units of `scale_of` its beginning."""
    seen = run.first(share)
    middle = extrapolate(seen, run.budgets[-1:], form, shrinkage)[0]
    return float((run.values[-1] - middle) / scale_of(seen))


@dataclass(frozen=True)
class ForecastRecord:
    """runs judged; coverage of the 90% intervals; error: median of |forecast - actual| over the
    actual value; naive: the same of the last seen value; brier: of the chance that the run still
    gains a tenth of what it had gained."""

    runs: int
    coverage: float
    error: float
    naive: float
    brier: float


def judge(made: Forecasters, runs: Sequence[BudgetCurve]) -> ForecastRecord:
    """What forecasters are worth on runs that did not choose them."""
    inside, errors, naive, brier = [], [], [], []
    for run in runs:
        seen, budget, actual = run.first(made.rising.share), run.budgets[-1], run.values[-1]
        forecaster = made.of(seen)
        middle, low, high = forecaster.end(seen, float(budget))
        size = max(abs(float(actual)), 1e-12)
        inside.append(low <= actual <= high)
        errors.append(abs(middle - actual) / size)
        naive.append(abs(seen.values[-1] - actual) / size)
        target = worthwhile(seen)
        chance = forecaster.chance(seen, float(budget), target)
        brier.append((chance - float(actual >= target)) ** 2)
    found = (float(np.mean(inside)), float(np.median(errors)), float(np.median(naive)))
    return ForecastRecord(len(runs), *found, float(np.mean(brier)))


def worthwhile(seen: BudgetCurve) -> float:
    """The value that makes going on worth it: the last one seen and a tenth of the range so far."""
    return float(seen.values[-1] + 0.1 * scale_of(seen))


def halves(runs: Sequence[BudgetCurve]) -> tuple[list[BudgetCurve], list[BudgetCurve]]:
    """Two halves of the runs; those of one group stay together, groups alternate in their order."""
    groups = list(dict.fromkeys(run.group for run in runs))
    chosen = set(groups[::2])
    return [r for r in runs if r.group in chosen], [r for r in runs if r.group not in chosen]
