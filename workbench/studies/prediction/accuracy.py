"""How often a cheap rung orders two strategies like a dear one, and how far its word is good.

Decision accuracy: over pairs (A, B) whose difference on the dearer rung is real (p < .05 after Holm
over the pairs of a data set and metric), the share that the cheaper rung orders alike; a tie counts
half. Source of the measure: DataDecide, arXiv 2504.11393.

A stated probability speaks of any pair, also of one whose rows hardly differ, so it is fitted and
checked on all pairs. Where nobody knows for sure which row is better on the dearer rung, the truth
is a chance: the normal probability of the measured difference over its standard error.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy import optimize, stats

from workbench.spec.metrics import LM_METRICS
from workbench.spec.rungs import ORDER
from workbench.stats.p_values import LEVEL
from workbench.stats.samples import SEED, Floats
from workbench.stats.seeds_by_users import gaps

RESAMPLES = 2000
LEAST_PAIRS = 10
"""Real pairs below which no decision accuracy is stated."""

ELSEWHERE = "elsewhere"
"""A control that runs nothing: the order of the dear rung itself on the other data sets."""

GOAL = 0.9
UNINFORMED = 0.25
"""Brier score of one who always says a half."""
STEEPEST = 50.0


def pairs_of(
    rung: str,
    data: str,
    rows: Sequence[str],
    values: Floats,
    users: Sequence[str],
) -> pl.DataFrame:
    """rung, data, metric, first, second, difference (first minus second), error, p_holm, spread
    (standard deviation of the rows' means), seeds; of values `[rows, metrics, seeds, prompts]`."""
    found = []
    for place, metric in enumerate(LM_METRICS):
        mine = values[:, place]
        spread = float(mine.mean((1, 2)).std(ddof=1))
        for one in gaps(mine, users):
            found.append(
                {
                    "rung": rung,
                    "data": data,
                    "metric": metric,
                    "first": rows[one.i],
                    "second": rows[one.j],
                    "difference": one.difference,
                    "error": one.error,
                    "p_holm": one.p_holm,
                    "spread": spread,
                    "seeds": mine.shape[1],
                }
            )
    return pl.DataFrame(found)


def compared(pairs: pl.DataFrame, cheap: str, dear: str) -> pl.DataFrame:
    """Every pair that both rungs have: data, metric, first, second, x (the cheap rung's difference
    in spreads of its rows), raw (its probability that first is better, from its own noise), better
    (whether first is better on the dear rung, as measured), chance (how sure that is: 1 = first for
    sure), real (whether it is sure, after correction), agrees (1, 0, or a half)."""
    keys = ["data", "metric", "first", "second"]
    dearer = pairs.filter(rung=dear)
    both = dearer.join(pairs.filter(rung=cheap), on=keys, suffix="_cheap")
    x = both["difference_cheap"].to_numpy() / np.maximum(both["spread_cheap"].to_numpy(), 1e-300)
    noise, error = (np.maximum(both[name].to_numpy(), 1e-300) for name in ("error_cheap", "error"))
    better = both["difference"].to_numpy() > 0
    agrees = np.where(x == 0, 0.5, (x > 0) == better)
    return both.select(keys).with_columns(
        x=pl.Series(x),
        raw=pl.Series(stats.norm.cdf(both["difference_cheap"].to_numpy() / noise)),
        better=pl.Series(better),
        chance=pl.Series(stats.norm.cdf(both["difference"].to_numpy() / error)),
        real=both["p_holm"].fill_nan(None).lt(LEVEL).fill_null(False),
        agrees=pl.Series(agrees, dtype=pl.Float64),
    )


def elsewhere(pairs: pl.DataFrame, dear: str) -> pl.DataFrame:
    """The dear rung's pairs, and `ELSEWHERE`'s: for each data set the mean difference on the other
    ones, in spreads of the rows there. What orders like this control says that strategies rank
    alike everywhere, not that it knows a data set. Columns as in `pairs_of`."""
    known = pairs.filter(rung=dear)
    keys = ["data", "metric", "first", "second"]
    others = known.select(*keys, each=pl.col("difference") / pl.col("spread"))
    found = (
        known.join(others, on=keys[1:], suffix="_other")
        .filter(pl.col("data") != pl.col("data_other"))
        .group_by(keys, maintain_order=True)
        .agg(difference=pl.col("each").mean())
        .with_columns(rung=pl.lit(ELSEWHERE), error=0.0, p_holm=math.nan, spread=1.0)
        .with_columns(seeds=pl.lit(0, dtype=pl.Int64))
    )
    return pl.concat([known, found.select(known.columns)])


def judged(pairs: pl.DataFrame, cheap: str, dear: str) -> pl.DataFrame:
    """`compared`, of the pairs that are real on the dear rung."""
    return compared(pairs, cheap, dear).filter("real")


def decision_accuracy(
    pairs: pl.DataFrame, cheap: str, dear: str, metric: str | None = None
) -> dict[str, float | int | None]:
    """accuracy, low, high (95%, strategies and data sets resampled together), pairs, data sets;
    accuracy is None below `LEAST_PAIRS` real pairs. metric None = all of them together."""
    real = judged(pairs, cheap, dear)
    if metric is not None:
        real = real.filter(metric=metric)
    count, sets = real.height, real["data"].n_unique()
    empty: dict[str, float | int | None] = {
        "accuracy": None,
        "low": None,
        "high": None,
        "pairs": count,
        "data_sets": sets,
    }
    if count < LEAST_PAIRS:
        return empty
    agrees = real["agrees"].to_numpy()
    low, high = _interval(real, agrees)
    return {**empty, "accuracy": float(agrees.mean()), "low": low, "high": high}


def reliability(
    pairs: pl.DataFrame, cheap: str, dear: str, metric: str | None = None
) -> pl.DataFrame:
    """Do stated probabilities hold? One row per tenth of them, over all pairs: stated (their mean,
    of the order that is held likelier), right (the share of orders that hold on the dear rung, in
    expectation where that is not sure), low, high (95%, as in `decision_accuracy`), pairs. Empty
    below `LEAST_PAIRS` real pairs."""
    every = compared(pairs, cheap, dear)
    if metric is not None:
        every = every.filter(metric=metric)
    if every["real"].sum() < LEAST_PAIRS:
        return pl.DataFrame()
    stated = stated_probabilities(every)
    likelier, chance = np.maximum(stated, 1 - stated), every["chance"].to_numpy()
    right = np.where(stated == 0.5, 0.5, np.where(stated > 0.5, chance, 1 - chance))
    tenth = np.minimum((likelier * 10 + 1e-9).astype(int), 9)
    found = []
    for place in np.unique(tenth):
        here = tenth == place
        low, high = _interval(every.filter(pl.Series(here)), right[here])
        found.append(
            {
                "stated": float(likelier[here].mean()),
                "right": float(right[here].mean()),
                "low": low,
                "high": high,
                "pairs": int(here.sum()),
            }
        )
    return pl.DataFrame(found)


def _interval(real: pl.DataFrame, agrees: Floats) -> tuple[float, float]:
    """95% interval of the mean of `agrees`, strategies and data sets resampled together."""
    count = real.height
    rng = np.random.default_rng(SEED)
    names, place = np.unique(
        np.concatenate([real["first"].to_numpy(), real["second"].to_numpy()]), return_inverse=True
    )
    first, second = place[:count], place[count:]
    folders, where = np.unique(real["data"].to_numpy(), return_inverse=True)
    rows = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    each = rng.multinomial(len(folders), np.full(len(folders), 1 / len(folders)), RESAMPLES)
    weight = rows[:, first] * rows[:, second] * each[:, where]
    total = weight.sum(1)
    drawn = (weight @ agrees)[total > 0] / total[total > 0]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def accuracy_table(pairs: pl.DataFrame, order: Sequence[str] = ORDER) -> pl.DataFrame:
    """cheap, dear, metric ("all" first), accuracy, low, high, pairs, data_sets (of real pairs);
    brier, slope (of all pairs); rungs from cheap to dear in `order`."""
    there = [rung for rung in order if rung in set(pairs["rung"])]
    found = []
    for cheap, dear in itertools.combinations(there, 2):
        for metric in (None, *LM_METRICS):
            said = decision_accuracy(pairs, cheap, dear, metric)
            every = compared(pairs, cheap, dear)
            every = every if metric is None else every.filter(metric=metric)
            known = said["accuracy"] is not None
            found.append(
                {
                    "cheap": cheap,
                    "dear": dear,
                    "metric": metric or "all",
                    **said,
                    "brier": brier_score(every) if known else None,
                    "slope": slope(every) if known else None,
                }
            )
    return pl.DataFrame(found, infer_schema_length=None)


def brier_score(every: pl.DataFrame) -> float:
    """Mean squared error of the stated probabilities of `compared`'s pairs, in expectation where
    the truth is not sure."""
    stated, chance = stated_probabilities(every), every["chance"].to_numpy()
    return float((chance * (1 - stated) ** 2 + (1 - chance) * stated**2).mean())


def slope(every: pl.DataFrame) -> float:
    """b of P(first is better) = 1 / (1 + exp(-b x)), by maximum likelihood over `compared`'s pairs,
    in expectation where the truth is not sure; one made-up pair on either side at x = 1 keeps it
    finite. 0 where the cheap rung says nothing."""
    x = np.concatenate([every["x"].to_numpy(), [1.0, 1.0]])
    chance = np.concatenate([every["chance"].to_numpy(), [1.0, 0.0]])

    def loss(b: float) -> float:
        wrong, right = np.logaddexp(0.0, b * x), np.logaddexp(0.0, -b * x)
        return float((chance * right + (1 - chance) * wrong).sum())

    return max(0.0, float(optimize.minimize_scalar(loss, bounds=(0, STEEPEST), method="bounded").x))


def stated_probabilities(every: pl.DataFrame) -> Floats:
    """Probability that first is better, the slope fitted on the *other* data sets alone; `[n]`.

    With one data set there is no other to learn from: the cheap rung's own noise speaks.
    """
    folders = every["data"].unique().to_list()
    if len(folders) < 2:
        return np.asarray(every["raw"].to_numpy(), dtype=np.float64)
    found = np.empty(every.height)
    for folder in folders:
        mine = (every["data"] == folder).to_numpy()
        b = slope(every.filter(pl.col("data") != folder))
        found[mine] = 1 / (1 + np.exp(-np.clip(b * every["x"].to_numpy()[mine], -50, 50)))
    return found
