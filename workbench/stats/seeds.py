"""Statistics over seeds: means, intervals, paired differences, corrected p-values.

The last axis is always the sample, one entry per seed (or per seed and stratum), [..., n].
Intervals are 95% bootstraps that resample within each stratum, with the same draw for every
strategy, so that pairs by seed stay together. A mean gets a bootstrap-t interval: resamples are
studentised and jittered by half a standard error, so that few or equal values stay defined. Other
statistics get percentiles, widened for small samples so that a normal mean would get its t interval
(Hesterberg 2015, section 5.3). `python -m benchmarks.intervals` prints how often both cover.
P-values are sign-flip permutations of paired differences. Every draw comes from a fixed seed: the
same numbers give the same answer, whatever else has been drawn before.
P-values of one table are corrected together by max-T over shared flips.
Sources: Agarwal et al. 2021 (IQM, stratified intervals, performance profiles, probability of
improvement); Hesterberg 2015, "What teachers should know about the bootstrap"; Holm 1979;
Westfall and Young 1993 (max-T).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Statistic: TypeAlias = Callable[[Floats], Floats]
"""Maps samples `[..., n]` to `[...]`."""

CONFIDENCE = 0.95
ONE_SIDED = 0.90
"""Confidence of the interval whose lower end is a one-sided 95% bound."""

RESAMPLES = 2_000
JITTER = 0.5
"""Standard errors by which the entries of a resample are moved, so that a resample of a single
value has a spread too."""

FEWEST = 5
LEVEL = 0.05
"""A corrected p-value below it tells two strategies apart."""

ENOUGH = 10
SEED = 20_260_422
_BEYOND = 4
_MOST_RESAMPLES = 50_000
_EXACT_UP_TO = 13
_FLIPS = 9_999


@dataclass(frozen=True)
class Estimate:
    """A value over `n` seeds with its 95% interval.

    low, high: None without an interval, or where that end is unbounded. label: empty, or why the
    interval is missing or to be read with care.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    label: str


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference, first minus second. p: two-sided sign-flip p-value, uncorrected."""

    p: float


def mean(values: Floats) -> Floats:
    """Mean over the last axis."""
    found: Floats = np.mean(values, axis=-1)
    return found


def iqm(values: Floats) -> Floats:
    """Interquartile mean over the last axis: `floor(n / 4)` values are cut from each end."""
    cut = values.shape[-1] // 4
    found: Floats = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)
    return found


Name: TypeAlias = Literal["mean", "iqm"]
STATISTICS: Mapping[str, Statistic] = MappingProxyType({"mean": mean, "iqm": iqm})


def small_sample_label(n: int) -> str:
    """What a reader must know of an interval over n seeds; empty from 10 on."""
    if n < FEWEST:
        return f"no interval: {n} seeds"
    return f"under-covers where values are skewed: {n} seeds" if n < ENOUGH else ""


def resample(n: int, strata: Sequence[object] | None = None, resamples: int = RESAMPLES) -> Ints:
    """Bootstrap indices `[resamples, n]`: each entry is replaced by one of its own stratum."""
    rng = np.random.default_rng(SEED)
    if strata is None:
        return rng.integers(0, n, (resamples, n))
    drawn = np.empty((resamples, n), dtype=np.int64)
    for members in _members(strata, n):
        drawn[:, members] = members[rng.integers(0, len(members), (resamples, len(members)))]
    return drawn


def interval(
    samples: ArrayLike,
    statistic: Statistic,
    strata: Sequence[object] | None = None,
    confidence: float = CONFIDENCE,
) -> tuple[float | None, float | None]:
    """Bootstrap interval of a statistic of `samples` `[..., n]`; columns are resampled together.

    statistic maps `[..., resamples, n]` to `[resamples]`. An end that is infinite, or below five
    entries in a stratum, is None; a resample for which the statistic is undefined (NaN) widens
    both ends. A family of m intervals is corrected by confidence = 1 - .05 / m; narrower tails draw
    more resamples. Raises ValueError when strata and samples differ in length.
    """
    values = np.asarray(samples, dtype=np.float64)
    n = values.shape[-1]
    members = _members(strata, n) if strata is not None else [np.arange(n)]
    sizes = [len(m) for m in members]
    if min(sizes) < FEWEST:
        return None, None
    if statistic is mean and values.ndim == 1:
        return _studentised(values, members, strata, confidence)
    tail = _tail(min(sizes), n - len(sizes), confidence)
    resamples = min(max(RESAMPLES, math.ceil(_BEYOND / tail)), _MOST_RESAMPLES)
    found = statistic(values[..., resample(n, strata, resamples)])
    undefined = np.isnan(found)
    low = np.quantile(np.where(undefined, -np.inf, found), tail, method="lower")
    high = np.quantile(np.where(undefined, np.inf, found), 1 - tail, method="higher")
    return finite(float(low)), finite(float(high))


def _studentised(
    values: Floats, members: Sequence[Ints], strata: Sequence[object] | None, confidence: float
) -> tuple[float | None, float | None]:
    """Bootstrap-t interval of the mean of `[n]`; members: the entries of each stratum."""
    n, tail = len(values), (1 - confidence) / 2
    drawn = resample(n, strata, min(max(RESAMPLES, math.ceil(_BEYOND / tail)), _MOST_RESAMPLES))
    centre, jitter = np.empty(n), np.empty(n)
    for group in members:
        own = values[group]
        centre[group] = own.mean()
        # Away from the mean or towards it: mirrored values get mirrored resamples.
        jitter[group] = JITTER * own.std(ddof=1) / math.sqrt(len(group)) * np.sign(own - own.mean())
    noise = np.random.default_rng(SEED + 1).standard_normal(drawn.shape)
    resampled = (values - centre)[drawn] + jitter[drawn] * noise
    error = _standard_error(values, members)
    moved, errors = resampled.mean(-1), _standard_error(resampled, members)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.nan_to_num(moved / errors, nan=0.0, posinf=np.inf, neginf=-np.inf)
    high = values.mean() - error * np.quantile(t, tail, method="lower")
    low = values.mean() - error * np.quantile(t, 1 - tail, method="higher")
    return finite(float(low)), finite(float(high))


def _standard_error(values: Floats, members: Sequence[Ints]) -> Floats:
    """Standard error of a mean stratified by `members`, over the last axis of `[..., n]`."""
    n = values.shape[-1]
    parts = [values[..., m].var(axis=-1, ddof=1) * len(m) / n**2 for m in members]
    found: Floats = np.sqrt(np.sum(parts, axis=0))
    return found


def estimate(
    values: ArrayLike,
    statistic: Name = "mean",
    strata: Sequence[object] | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Mean or interquartile mean of `[n]` values with its interval. Raises ValueError if empty."""
    sample = _sample(values)
    low, high = interval(sample, STATISTICS[statistic], strata, confidence)
    return Estimate(
        float(STATISTICS[statistic](sample)), low, high, len(sample), _label(len(sample), strata)
    )


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Name = "mean",
    strata: Sequence[object] | None = None,
    confidence: float = CONFIDENCE,
) -> Difference:
    """The statistic of first minus second, both `[n]` in the same order of seeds.

    The IQM is that of the differences, not the difference of two IQMs, so that estimate, interval
    and p-value speak of one quantity. Raises ValueError for empty, unequal or non-finite samples.
    """
    a, b = _sample(first), _sample(second)
    if a.shape != b.shape:
        raise ValueError(f"pairs: {len(a)} values against {len(b)}; both need the same seeds")
    found = estimate(a - b, statistic, strata, confidence)
    p = sign_flip_p(a - b, statistic)
    return Difference(found.value, found.low, found.high, found.n, found.label, p)


def detectable(differences: ArrayLike, level: float = LEVEL, power: float = 0.8) -> float | None:
    """The smallest mean difference that n pairs with this spread would show at `level` in a share
    `power` of repeats, by the t test; None below two pairs.

    Differences `[n]`. It says what a comparison could have found, whatever it found.
    """
    d = _sample(differences)
    if len(d) < 2:
        return None
    needed = special.stdtrit(len(d) - 1, 1 - level / 2) + special.stdtrit(len(d) - 1, power)
    return float(needed * d.std(ddof=1) / math.sqrt(len(d)))


def least_p(pairs: int) -> float:
    """The smallest p that `paired_difference` can give with few pairs: all signs agree."""
    return min(1.0, 2.0 ** (1 - pairs))


def least_said(pairs: int, rows: int) -> str:
    """One line: how the p-values of a table are corrected, and the least that it can show."""
    return (
        f"p_corrected: sign flips, corrected (max-T) over the table; {rows} rows, {pairs} pairs: "
        f"none can be below {least_p(pairs):.2g}."
    )


def relative_gain(
    first: ArrayLike,
    second: ArrayLike,
    strata: Sequence[object] | None = None,
    confidence: float = CONFIDENCE,
) -> Difference:
    """mean(first) / mean(second) - 1, pairs by seed; p is that of the paired difference."""
    a, b = _sample(first), _sample(second)
    difference = paired_difference(a, b, "mean", strata, confidence)

    def gain(pair: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = mean(pair[0]) / mean(pair[1]) - 1
        return found

    pair = np.stack([a, b])
    low, high = interval(pair, gain, strata, confidence)
    value = float(gain(pair))
    return Difference(value, low, high, difference.n, difference.label, difference.p)


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, strata: Sequence[object] | None = None
) -> Estimate:
    """P(a run of first beats a run of second), ties count half; averaged over strata.

    Seeds are resampled in pairs, as everywhere here. Raises ValueError as `paired_difference`.
    """
    a, b = _sample(first), _sample(second)
    if a.shape != b.shape:
        raise ValueError(f"pairs: {len(a)} values against {len(b)}; both need the same seeds")
    groups = _members(strata, len(a)) if strata is not None else [np.arange(len(a))]

    def chance(pair: Floats) -> Floats:
        per_stratum = []
        for members in groups:
            gap = pair[0][..., members, None] - pair[1][..., None, members]
            per_stratum.append(((gap > 0) + 0.5 * (gap == 0)).mean(axis=(-2, -1)))
        found: Floats = np.mean(per_stratum, axis=0)
        return found

    pair = np.stack([a, b])
    low, high = interval(pair, chance, strata)
    return Estimate(float(chance(pair)), low, high, len(a), _label(len(a), strata))


def performance_profile(
    values: ArrayLike, thresholds: Sequence[float], strata: Sequence[object] | None = None
) -> list[Estimate]:
    """Share of runs above each threshold, with pointwise intervals. Raises ValueError if empty."""
    sample = _sample(values)
    label = _label(len(sample), strata)
    found = []
    for threshold in thresholds:

        def above(v: Floats, threshold: float = threshold) -> Floats:
            return mean((v > threshold).astype(np.float64))

        low, high = interval(sample, above, strata)
        found.append(Estimate(float(above(sample)), low, high, len(sample), label))
    return found


def sign_flip_p(differences: ArrayLike, statistic: Name = "mean") -> float:
    """Two-sided p-value of paired differences `[n]` under sign flips.

    Null hypothesis: each difference is as likely as its negative. Exact, over all 2^n flips, up to
    n = 13; above, 9,999 random flips and the observed one. So p is never below 2 / 2^n: with five
    seeds nothing is below .0625.
    """
    d = _sample(differences)
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


@dataclass(frozen=True)
class Pairs:
    """Values of two strategies `[n]` by shared (stratum, seed). unpaired: runs without a twin."""

    first: Floats
    second: Floats
    strata: tuple[str, ...]
    unpaired: int
    seeds: tuple[int, ...] = ()


def pair_by_seed(
    frame: pl.DataFrame, metric: str, first: str, second: str, stratum: str = "cell"
) -> Pairs:
    """Pair two strategies' rows by stratum and seed.

    frame: one row per (strategy, stratum, seed), as after choosing the last evaluation. Rows
    without a finite value have no pair. Raises ValueError when a strategy has two rows for one
    seed or when nothing is shared.
    """
    keys = [stratum, "seed"]
    usable = frame.filter(pl.col(metric).cast(pl.Float64).is_finite())
    sides = [
        usable.filter(pl.col("strategy") == name).select(*keys, pl.col(metric).cast(pl.Float64))
        for name in (first, second)
    ]
    for name, side in zip((first, second), sides, strict=True):
        if side.select(keys).is_duplicated().any():
            raise ValueError(f"{name}: more than one row for the same {stratum} and seed")
    both = sides[0].join(sides[1], on=keys, suffix="_second").sort(keys)
    if both.is_empty():
        raise ValueError(f"{first} and {second}: no seed in common with a value of {metric}")
    return Pairs(
        both[metric].to_numpy(),
        both[f"{metric}_second"].to_numpy(),
        tuple(str(value) for value in both[stratum]),
        sides[0].height + sides[1].height - 2 * both.height,
        tuple(both["seed"].to_list()),
    )


def finite(value: float | None) -> float | None:
    """The value, or None where it is missing or infinite."""
    return value if value is not None and math.isfinite(value) else None


def _sample(values: ArrayLike) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise ValueError("sample: one finite value per seed is needed, and at least one seed")
    return sample


def _members(strata: Sequence[object], n: int) -> list[Ints]:
    if len(strata) != n:
        raise ValueError(f"strata: {len(strata)} labels for {n} values")
    _, inverse = np.unique(np.asarray([str(s) for s in strata]), return_inverse=True)
    return [np.flatnonzero(inverse == label) for label in range(int(inverse.max()) + 1)]


def _label(n: int, strata: Sequence[object] | None) -> str:
    return small_sample_label(n if strata is None else min(len(m) for m in _members(strata, n)))


def _tail(smallest: int, freedom: int, confidence: float) -> float:
    """Tail of the percentile interval that gives a normal mean its t interval."""
    t = float(special.stdtrit(freedom, (1 + confidence) / 2))
    return float(special.ndtr(-t * math.sqrt(smallest / (smallest - 1))))


@lru_cache(maxsize=_EXACT_UP_TO)
def _all_signs(n: int) -> Floats:
    """Half of all sign patterns `[2^(n-1), n]`; the other half mirrors them."""
    bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    return 1.0 - 2.0 * bits.astype(np.float64)


@lru_cache(maxsize=8)
def _random_signs(n: int) -> Floats:
    rng = np.random.default_rng(SEED)
    return 1.0 - 2.0 * rng.integers(0, 2, (_FLIPS, n)).astype(np.float64)
