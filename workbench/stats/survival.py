"""Budget to target as a time to an event, with runs that never get there censored on the right.

A sample is `[2, ..., n]`: for each of n runs the budget at which it reached the target, or all it
spent without reaching it, and 1.0 or 0.0 for reached or not. Budgets are in the axis's own unit.
Kaplan-Meier curves come from `scipy.stats.ecdf`; medians are restated here so that thousands of
resamples are one array operation.
"""

from __future__ import annotations

import numpy as np
import scipy  # scipy.stats loads at first use: it takes a second, which a page would wait for

from workbench.stats.samples import Floats

_CLOSE = 1e-9


def sample(budget: Floats, reached: Floats) -> Floats:
    """Stack budgets `[n]` and reached flags `[n]` into one sample `[2, n]`."""
    return np.stack([budget.astype(np.float64), reached.astype(np.float64)])


def curve(runs: Floats) -> tuple[Floats, Floats]:
    """Kaplan-Meier: budgets `[m]` from 0 on, and the share of runs not there yet `[m]`.

    runs `[2, n]`. The first point is (0, 1) unless a run reaches the target at 0.
    """
    budget, reached = runs
    survival = scipy.stats.ecdf(scipy.stats.CensoredData.right_censored(budget, reached == 0)).sf
    times = np.asarray(survival.quantiles, dtype=np.float64)
    left = np.asarray(survival.probabilities, dtype=np.float64)
    if times[0] > 0:
        times, left = np.append(0.0, times), np.append(1.0, left)
    return times, left


def median(runs: Floats) -> Floats:
    """Kaplan-Meier median of `[2, ..., n]`, `[...]`; infinite when half never get there.

    Where the curve is flat at one half, the middle of the flat piece, so that without censoring
    this is the ordinary median.
    """
    times, left = _sorted_curve(runs)
    down_to = _first(times, left <= 0.5 + _CLOSE)
    below = _first(times, left < 0.5 - _CLOSE)
    middle: Floats = (down_to + below) / 2
    return middle


def _sorted_curve(runs: Floats) -> tuple[Floats, Floats]:
    """Budgets in order and the share still on its way just after each, both `[..., n]`."""
    budget, reached = runs
    # A run that stops where another reaches was still on its way: it sorts just after.
    key = np.where(reached > 0, budget, np.nextafter(budget, np.inf))
    order = np.argsort(key, axis=-1)
    times = np.take_along_axis(budget, order, axis=-1)
    event = np.take_along_axis(reached, order, axis=-1)
    at_risk = np.arange(times.shape[-1], 0, -1)
    left = np.cumprod(1 - event / at_risk, axis=-1).astype(np.float64)
    return times, left


def _first(times: Floats, mask: np.ndarray) -> Floats:
    place = mask.argmax(axis=-1)[..., None]
    value = np.take_along_axis(times, place, axis=-1)[..., 0]
    found: Floats = np.where(mask.any(axis=-1), value, np.inf)
    return found
