"""Intervals that resample users and seeds together, and rank correlations between two worlds.

A two-way ("pigeonhole") bootstrap: seeds and users are drawn independently with replacement, a
user with all of their prompts, and every row and metric meets the same draws, so differences
between rows are paired. It errs on the wide side. Source: Owen 2007, "The pigeonhole bootstrap",
arXiv 0712.1111.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from workbench.stats.estimates import CONFIDENCE
from workbench.stats.samples import SEED, Floats, Ints

RESAMPLES = 10_000

LEAST_RESAMPLED_P = 1 / (1 + RESAMPLES)
"""The smallest p that `max_t_of_resamples` gives for the resamples of `Draws`."""


@dataclass(frozen=True)
class Draws:
    """How often each seed `[R, S]` and each user `[R, U]` is drawn; place `[n]`: each prompt's
    user."""

    seeds: Floats
    users: Floats
    place: Ints

    @classmethod
    def of(cls, users: Sequence[str], seeds: int, resamples: int = RESAMPLES) -> Draws:
        """Draws for prompts of these users and so many seeds; always the same ones."""
        names, place = np.unique(np.asarray(users), return_inverse=True)
        rng = np.random.default_rng(SEED)
        seed_draws = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples)
        user_draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
        return cls(seed_draws.astype(np.float64), user_draws.astype(np.float64), place)

    def means(self, values: Floats, keep: Floats | None = None) -> tuple[Floats, Floats]:
        """Mean over seeds and prompts, `[...]`, and its resamples `[..., R]`.

        values `[..., S, n]`; keep bool `[n]`: the prompts of a slice. A resample without any prompt
        of the slice is NaN, and so is the mean where the slice is empty.
        """
        mask = np.ones(values.shape[-1], bool) if keep is None else np.asarray(keep, bool)
        place = self.place[mask]
        count = np.bincount(place, minlength=self.users.shape[1]).astype(np.float32)
        kept = values[..., mask]
        flat = kept.reshape(math.prod(kept.shape[:-1]), kept.shape[-1])
        total = np.stack([np.bincount(place, row, self.users.shape[1]) for row in flat])
        by_seed = (total.astype(np.float32) @ self.users.T).reshape(*values.shape[:-1], -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = (by_seed * self.seeds.T).sum(-2) / (values.shape[-2] * (self.users @ count))
            mean = kept.sum((-2, -1)) / (kept.shape[-2] * kept.shape[-1])
        return np.asarray(mean), drawn.astype(np.float64)


def percentiles(drawn: Floats, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """The ends of the percentile interval over the last axis; NaN resamples are left out, and where
    there are no others the ends are NaN."""
    tail = (1 - confidence) / 2
    ends = np.full((2, *drawn.shape[:-1]), np.nan)
    some = ~np.isnan(drawn).all(-1)
    ends[:, some] = np.nanquantile(drawn[some], [tail, 1 - tail], axis=-1)
    return ends[0], ends[1]


def max_t_of_resamples(observed: Floats, drawn: Floats) -> list[float]:
    """Adjusted p-values of m differences that share their resamples, one family.

    observed `[m]`; drawn `[m, R]`: the same differences, resampled. Step-down max-T: how often the
    largest deviation of a resample from what was observed, in standard errors, is as large as the
    observed difference; the null hypothesis moves the resamples to 0 (Westfall and Young 1993). A
    row without spread has p 1.
    """
    spread = np.nanstd(drawn, axis=-1)
    scale = np.where(spread > 0, spread, np.inf)
    observed = np.abs(observed) / scale
    moved = np.nan_to_num(np.abs(drawn - np.nanmean(drawn, axis=-1, keepdims=True)))
    order = np.argsort(-observed, kind="stable")
    largest = np.zeros(drawn.shape[-1])
    stepped = np.empty(len(observed))
    for place in order[::-1]:
        largest = np.maximum(largest, moved[place] / scale[place])
        stepped[place] = (1 + (largest >= observed[place]).sum()) / (1 + drawn.shape[-1])
    adjusted = np.empty(len(observed))
    adjusted[order] = np.maximum.accumulate(stepped[order])
    return [1.0 if size == 0 else float(p) for size, p in zip(spread, adjusted, strict=True)]


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho over `n` rows, its interval over the resamples of both sides, and the
    p-value of no association (permutations)."""

    rho: float
    low: float
    high: float
    p: float
    n: int


def rank_correlation(
    first: Floats, second: Floats, first_drawn: Floats, second_drawn: Floats
) -> RankCorrelation:
    """Do two worlds rank the same rows alike? means `[m]` and resampled means `[m, R]` of each."""
    rho = float(stats.spearmanr(first, second).statistic)
    ranks = [stats.rankdata(side, axis=0) for side in (first_drawn, second_drawn)]
    centred = [side - side.mean(0) for side in ranks]
    with np.errstate(invalid="ignore"):
        drawn = (centred[0] * centred[1]).sum(0) / np.sqrt(
            (centred[0] ** 2).sum(0) * (centred[1] ** 2).sum(0)
        )
    low, high = percentiles(drawn)
    rng = np.random.default_rng(SEED)
    mine, other = (stats.rankdata(side) - (len(first) + 1) / 2 for side in (first, second))
    chance = np.stack([rng.permutation(other) for _ in range(9_999)]) @ mine
    extreme = np.abs(chance) >= abs(float(mine @ other)) - 1e-9
    p = (1 + int(extreme.sum())) / 10_000
    return RankCorrelation(rho, float(low), float(high), p, len(first))
