"""Estimates over seeds with their intervals: means, paired differences, relative gains.

Intervals are 95% bootstraps that resample within each stratum, with the same draw for every
strategy, so that pairs by seed stay together. A mean gets a bootstrap-t interval: resamples are
studentised and jittered by half a standard error, so that few or equal values stay defined. Other
statistics get percentiles, widened for small samples so that a normal mean would get its t interval
(Hesterberg 2015, section 5.3). `python -m benchmarks.intervals` prints how often both cover.
Every draw comes from a fixed seed: the same numbers give the same answer, whatever else has been
drawn before.
Sources: Agarwal et al. 2021 (IQM, stratified intervals, performance profiles); Hesterberg 2015,
"What teachers should know about the bootstrap".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from workbench.plurals import number_of
from workbench.stats.p_values import LEVEL, sign_flip_p
from workbench.stats.samples import (
    SEED,
    STATISTICS,
    Floats,
    Ints,
    Name,
    Statistic,
    finite,
    mean,
    one_per_seed,
)

CONFIDENCE = 0.95
ONE_SIDED = 0.90
"""Confidence of the interval whose lower end is a one-sided 95% bound."""

RESAMPLES = 2_000
JITTER = 0.5
"""Standard errors by which the entries of a resample are moved, so that a resample of a single
value has a spread too."""

FEWEST = 5
ENOUGH = 10
PLENTY = 20
_BEYOND = 4
_MOST_RESAMPLES = 50_000


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


def small_sample_label(n: int) -> str:
    """What a reader must know of an interval over n seeds; empty from 10 on."""
    if n < FEWEST:
        return f"no interval: {number_of(n, 'seed')}"
    return f"under-covers (.9) where values are skewed: {n} seeds" if n < ENOUGH else ""


def coverage_said(n: int) -> str:
    """One line below a table of intervals over n seeds: what they cover; empty from 20 on, and
    where there are none. The figures are those of `benchmarks.intervals`."""
    if not FEWEST <= n < PLENTY:
        return ""
    return (
        f"Intervals of {n} seeds hold the truth in .95 of draws, in about .90 where values are as "
        "skewed as a log-normal, in .70 to .85 beside rare far outliers."
    )


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
        # Signed by the side of the mean, so that mirrored values get mirrored resamples.
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
    sample = one_per_seed(values)
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
    a, b = one_per_seed(first), one_per_seed(second)
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
    d = one_per_seed(differences)
    if len(d) < 2:
        return None
    needed = special.stdtrit(len(d) - 1, 1 - level / 2) + special.stdtrit(len(d) - 1, power)
    return float(needed * d.std(ddof=1) / math.sqrt(len(d)))


def relative_gain(
    first: ArrayLike,
    second: ArrayLike,
    strata: Sequence[object] | None = None,
    confidence: float = CONFIDENCE,
) -> Difference:
    """mean(first) / mean(second) - 1, pairs by seed; p is that of the paired difference."""
    a, b = one_per_seed(first), one_per_seed(second)
    difference = paired_difference(a, b, "mean", strata, confidence)

    def gain(pair: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = mean(pair[0]) / mean(pair[1]) - 1
        return found

    pair = np.stack([a, b])
    low, high = interval(pair, gain, strata, confidence)
    value = float(gain(pair))
    return Difference(value, low, high, difference.n, difference.label, difference.p)


def performance_profile(
    values: ArrayLike, thresholds: Sequence[float], strata: Sequence[object] | None = None
) -> list[Estimate]:
    """Share of runs above each threshold, with pointwise intervals. Raises ValueError if empty."""
    sample = one_per_seed(values)
    label = _label(len(sample), strata)
    found = []
    for threshold in thresholds:

        def above(v: Floats, threshold: float = threshold) -> Floats:
            return mean((v > threshold).astype(np.float64))

        low, high = interval(sample, above, strata)
        found.append(Estimate(float(above(sample)), low, high, len(sample), label))
    return found


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
