"""Differences between rows measured over seeds and users at once, tested with few seeds.

Values are crossed: every seed meets every user. The variance of a mean difference is taken as that
between seeds over their number plus that between users (a user with all of their prompts) over
theirs; what both share is counted twice, so it errs on the wide side. Degrees of freedom by
Satterthwaite, so that few seeds cost what they should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from workbench.stats.seeds import Floats, holm


@dataclass(frozen=True)
class Gap:
    """first minus second: the mean difference, its standard error, degrees of freedom and p."""

    difference: float
    error: float
    freedom: float
    p: float


def gap(first: Floats, second: Floats, users: Sequence[str]) -> Gap:
    """The paired difference of two rows `[S, n]` over S seeds and n prompts; users `[n]`.

    With one seed the seed's variance is unknown: p is 1. Raises ValueError for other shapes.
    """
    values = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(users):
        raise ValueError(f"values: expected seeds by {len(users)} prompts, got {values.shape}")
    seeds, prompts = values.shape
    mean = float(values.mean())
    _, place = np.unique(np.asarray(users), return_inverse=True)
    count = int(place.max()) + 1
    sums = np.zeros(count)
    np.add.at(sums, place, values.mean(0) - mean)
    by_user = float((sums**2).sum()) / prompts**2 * count / max(count - 1, 1)
    if seeds < 2 or count < 2:
        return Gap(mean, float(np.sqrt(by_user)), 0.0, 1.0)
    by_seed = float(values.mean(1).var(ddof=1)) / seeds
    variance = by_user + by_seed
    if variance == 0:
        return Gap(mean, 0.0, float(seeds - 1), 1.0 if mean == 0 else 0.0)
    freedom = variance**2 / (by_seed**2 / (seeds - 1) + by_user**2 / (count - 1))
    error = float(np.sqrt(variance))
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return Gap(mean, error, float(freedom), min(1.0, p))


def gaps(values: Floats, users: Sequence[str]) -> list[tuple[int, int, Gap, float]]:
    """Every pair of rows of `[A, S, n]`: i < j, row i minus row j, and its p after Holm over all
    pairs."""
    found = [
        (i, j, gap(values[i], values[j], users))
        for i in range(len(values))
        for j in range(i + 1, len(values))
    ]
    adjusted = holm([g.p for _, _, g in found])
    return [(i, j, g, p) for (i, j, g), p in zip(found, adjusted, strict=True)]
