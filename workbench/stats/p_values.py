"""P-values of paired differences by sign flips, and their corrections over a table.

Every draw comes from a fixed seed: the same numbers give the same answer, whatever else has been
drawn before. P-values of one table are corrected together by max-T over shared flips.
Sources: Holm 1979; Westfall and Young 1993 (max-T).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from workbench.stats.samples import SEED, STATISTICS, Floats, Name, one_per_seed

LEVEL = 0.05
"""A corrected p-value below it tells two strategies apart."""

_EXACT_UP_TO = 13
_FLIPS = 9_999


def least_p(pairs: int) -> float:
    """The smallest p that `paired_difference` can give: all signs agree. Above 13 pairs flips are
    drawn, and the observed one counts among them."""
    exact = min(1.0, 2.0 ** (1 - pairs))
    return exact if pairs <= _EXACT_UP_TO else max(exact, 1 / (1 + _FLIPS))


def least_said(pairs: int, rows: int, column: str = "p_corrected") -> str:
    """One line: how the p-values of a table are corrected, and the least that it can show."""
    return (
        f"{column}: sign flips, corrected (max-T) over the table; {rows} rows, {pairs} pairs: "
        f"none can be below {least_p(pairs):.2g}."
    )


def least_after_holm(pairs: int, rows: int) -> float:
    """The smallest p that a family of so many rows can show after Holm's correction."""
    return min(1.0, rows * least_p(pairs))


def sign_flip_p(differences: ArrayLike, statistic: Name = "mean") -> float:
    """Two-sided p-value of paired differences `[n]` under sign flips.

    Null hypothesis: each difference is as likely as its negative. Exact, over all 2^n flips, up to
    n = 13; above, 9,999 random flips and the observed one. So p is never below 2 / 2^n: with five
    seeds nothing is below .0625.
    """
    d = one_per_seed(differences)
    rule = STATISTICS[statistic]
    scale = float(np.abs(d).max())
    if scale == 0:
        return 1.0
    d = d / scale
    observed = abs(float(rule(d)))
    if len(d) <= _EXACT_UP_TO:
        as_extreme = np.abs(rule(_all_signs(len(d)) * d)) >= observed - 1e-12
        return float(as_extreme.mean())
    as_extreme = np.abs(rule(_random_signs(len(d)) * d)) >= observed - 1e-12
    return float((1 + as_extreme.sum()) / (1 + _FLIPS))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values of one declared family, in the given order.

    Raises ValueError for a value outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values: each must lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def max_t(differences: ArrayLike) -> list[float]:
    """Adjusted p-values `[m]` of m rows of paired differences `[m, n]`, one family; NaN = no pair.

    Step-down max-T (Westfall and Young 1993) under sign flips that all rows share, seed by seed: a
    row's statistic is its sum over the root of its sum of squares. Null hypothesis: the differences
    of a seed, all rows together, are as likely as their negatives. Rows that move together cost
    nothing, and the least p is `least_p(n)` however many rows there are.
    Raises ValueError for anything but two axes with at least one seed.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 2 or not d.shape[1] or np.isinf(d).any():
        raise ValueError(
            "differences: expected rows by seeds, finite or NaN, with one seed or more"
        )
    d = np.nan_to_num(d)
    scale = np.sqrt((d**2).sum(-1))
    d = d / np.where(scale > 0, scale, 1.0)[:, None]
    observed = np.abs(d.sum(-1))
    exact = d.shape[1] <= _EXACT_UP_TO
    flips = _all_signs(d.shape[1]) if exact else _random_signs(d.shape[1])
    order = np.argsort(-observed, kind="stable")
    largest = np.maximum.accumulate(np.abs(flips @ d[order[::-1]].T), axis=1)[:, ::-1]
    as_extreme = (largest >= observed[order] - 1e-12).sum(0)
    p = as_extreme / len(flips) if exact else (1 + as_extreme) / (1 + len(flips))
    adjusted = np.empty(len(d))
    adjusted[order] = np.maximum.accumulate(p)
    return [float(value) for value in adjusted]


def aligned(rows: Sequence[Mapping[Any, float]]) -> Floats:
    """Differences by pair of several comparisons as `max_t` takes them: `[m, n]` over every pair
    that occurs, NaN where a row has none."""
    pairs = list(dict.fromkeys(pair for row in rows for pair in row))
    return np.array([[row.get(pair, math.nan) for pair in pairs] for row in rows])


@lru_cache(maxsize=_EXACT_UP_TO)
def _all_signs(n: int) -> Floats:
    """Half of all sign patterns `[2^(n-1), n]`; the other half mirrors them."""
    bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    return 1.0 - 2.0 * bits.astype(np.float64)


@lru_cache(maxsize=8)
def _random_signs(n: int) -> Floats:
    rng = np.random.default_rng(SEED)
    return 1.0 - 2.0 * rng.integers(0, 2, (_FLIPS, n)).astype(np.float64)
