"""Differences between rows measured over seeds and users at once, tested with few seeds.

Values are crossed: every seed meets every user. The variance of a mean difference is taken as that
between seeds over their number plus that between users (a user with all of their prompts) over
theirs; what both share is counted twice, so it errs on the wide side. Three seeds know their own
variance badly, so the pairs of a table lend each other strength: a pair's variance between seeds is
moderated towards that of all pairs, as much as the pairs are alike in it (Smyth 2004, "Linear
models and empirical Bayes methods"). Degrees of freedom by Satterthwaite. Where rows differ 25-fold
in their noise, three seeds cry wolf in one family of ten instead of one of twenty
(tests/workbench/stats/test_crossed.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from workbench.stats.p_values import holm
from workbench.stats.samples import Floats

_MANY = 1e4


@dataclass(frozen=True)
class PairDifference:
    """Row i minus row j: mean difference, its standard error, and p, alone and after Holm over all
    pairs."""

    i: int
    j: int
    difference: float
    error: float
    p: float
    p_holm: float


def gaps(values: Floats, users: Sequence[str]) -> list[PairDifference]:
    """Every pair of rows of `[A, S, n]`, i < j, over S seeds and n prompts; users `[n]`.

    With one seed the seed's variance is unknown: p is 1. Raises ValueError for other shapes.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 3 or values.shape[2] != len(users):
        raise ValueError(f"values: expected rows, seeds, {len(users)} prompts, got {values.shape}")
    rows, seeds, _ = values.shape
    pairs = [(i, j) for i in range(rows) for j in range(i + 1, rows)]
    apart = [values[i] - values[j] for i, j in pairs]
    means = np.array([float(one.mean()) for one in apart])
    by_user, count = _between_users(apart, users)
    if seeds < 2:
        return [
            PairDifference(i, j, m, e, 1.0, 1.0)
            for (i, j), m, e in zip(pairs, means.tolist(), np.sqrt(by_user).tolist(), strict=True)
        ]
    own = np.array([float(one.mean(1).var(ddof=1)) for one in apart])
    spread, known = moderated(own, seeds - 1)
    by_seed = spread / seeds
    error = np.sqrt(by_user + by_seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (by_user + by_seed) ** 2 / (by_seed**2 / known + by_user**2 / max(count - 1, 1))
        p = 2 * stats.t.sf(np.abs(means) / error, freedom)
    p = np.where(error > 0, p, np.where(means == 0, 1.0, 0.0))
    adjusted = holm([min(1.0, float(x)) for x in p])
    return [
        PairDifference(i, j, float(means[k]), float(error[k]), float(p[k]), adjusted[k])
        for k, (i, j) in enumerate(pairs)
    ]


def _between_users(apart: Sequence[Floats], users: Sequence[str]) -> tuple[Floats, int]:
    """The variance of each mean that users cause `[pairs]`, and how many users there are."""
    _, place = np.unique(np.asarray(users), return_inverse=True)
    count, prompts = int(place.max()) + 1, len(users)
    found = []
    for one in apart:
        sums = np.bincount(place, one.mean(0) - one.mean(), count)
        found.append(float((sums**2).sum()) / prompts**2 * count / max(count - 1, 1))
    return np.array(found), count


def moderated(variances: Floats, freedom: int) -> tuple[Floats, float]:
    """Variances `[k]`, each of `freedom` degrees, drawn towards each other; and the degrees that
    each has then. Those that are 0 stay out of the estimate, and of fewer than three others none
    is made."""
    positive = variances[variances > 0]
    if len(positive) < 3:
        return variances, float(freedom)
    half = freedom / 2
    logs = np.log(positive) - special.digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1)) - float(special.polygamma(1, half))
    if excess <= float(special.polygamma(1, _MANY / 2)):
        prior = _MANY
    else:
        prior = 2 * optimize.brentq(
            lambda x: float(special.polygamma(1, x)) - excess, 1e-3, _MANY / 2
        )
    centre = float(np.exp(logs.mean() + special.digamma(prior / 2) - np.log(prior / 2)))
    return (prior * centre + freedom * variances) / (prior + freedom), prior + freedom
