"""How often a cheap rung orders two strategies like a dear one, and how far its word is good.

Decision accuracy: over pairs (A, B) whose difference on the dearer rung is real (p < .05 after Holm
over the pairs of a data set and metric), the share that the cheaper rung orders alike; a tie counts
half. Source of the measure: DataDecide, arXiv 2504.11393.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy import optimize, stats

from workbench.spec.metrics import LM_METRICS
from workbench.spec.rungs import ORDER
from workbench.stats.crossed import gaps
from workbench.stats.p_values import LEVEL
from workbench.stats.samples import SEED, Floats

RESAMPLES = 2000
LEAST_PAIRS = 10
"""Real pairs below which no decision accuracy is stated."""

GOAL = 0.9
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


def judged(pairs: pl.DataFrame, cheap: str, dear: str) -> pl.DataFrame:
    """The pairs that are real on the dear rung: data, metric, first, second, x (the cheap rung's
    difference in spreads of its rows), raw (its probability that first is better, from its own
    noise), better (whether first is better on the dear rung), agrees (1, 0, or a half)."""
    keys = ["data", "metric", "first", "second"]
    real = pairs.filter((pl.col("rung") == dear) & (pl.col("p_holm") < LEVEL))
    both = real.join(pairs.filter(rung=cheap), on=keys, suffix="_cheap")
    x = both["difference_cheap"].to_numpy() / np.maximum(both["spread_cheap"].to_numpy(), 1e-300)
    error = np.maximum(both["error_cheap"].to_numpy(), 1e-300)
    better = both["difference"].to_numpy() > 0
    agrees = np.where(x == 0, 0.5, (x > 0) == better)
    return both.select(keys).with_columns(
        x=pl.Series(x),
        raw=pl.Series(stats.norm.cdf(both["difference_cheap"].to_numpy() / error)),
        better=pl.Series(better),
        agrees=pl.Series(agrees, dtype=pl.Float64),
    )


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
    """Do stated probabilities hold? One row per tenth of them: stated (their mean, of the order
    that is held likelier), right (the share of orders that hold on the dear rung), low, high (95%,
    as in `decision_accuracy`), pairs. Empty below `LEAST_PAIRS` real pairs."""
    real = judged(pairs, cheap, dear)
    if metric is not None:
        real = real.filter(metric=metric)
    if real.height < LEAST_PAIRS:
        return pl.DataFrame()
    stated = stated_probabilities(real)
    likelier = np.maximum(stated, 1 - stated)
    right = np.where(stated == 0.5, 0.5, (stated > 0.5) == real["better"].to_numpy())
    tenth = np.minimum((likelier * 10 + 1e-9).astype(int), 9)
    found = []
    for place in np.unique(tenth):
        here = tenth == place
        low, high = _interval(real.filter(pl.Series(here)), right[here])
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
    """cheap, dear, metric ("all" first), accuracy, low, high, pairs, data_sets, brier, slope; rungs
    from cheap to dear in `order`."""
    known = [rung for rung in order if rung in set(pairs["rung"])]
    found = []
    for cheap, dear in itertools.combinations(known, 2):
        for metric in (None, *LM_METRICS):
            said = decision_accuracy(pairs, cheap, dear, metric)
            real = judged(pairs, cheap, dear)
            real = real if metric is None else real.filter(metric=metric)
            stated = stated_probabilities(real)
            brier = None
            if said["accuracy"] is not None:
                brier = float(((stated - real["better"].to_numpy()) ** 2).mean())
            found.append(
                {
                    "cheap": cheap,
                    "dear": dear,
                    "metric": metric or "all",
                    **said,
                    "brier": brier,
                    "slope": slope(real) if said["accuracy"] is not None else None,
                }
            )
    return pl.DataFrame(found, infer_schema_length=None)


def slope(real: pl.DataFrame) -> float:
    """b of P(first is better) = 1 / (1 + exp(-b x)), by maximum likelihood over real pairs; one
    made-up pair on either side at x = 1 keeps it finite. 0 where the cheap rung says nothing."""
    x = np.concatenate([real["x"].to_numpy(), [1.0, 1.0]])
    y = np.concatenate([real["better"].to_numpy().astype(np.float64), [1.0, 0.0]])

    def loss(b: float) -> float:
        return float(np.logaddexp(0.0, -np.where(y > 0, 1.0, -1.0) * b * x).sum())

    return max(0.0, float(optimize.minimize_scalar(loss, bounds=(0, STEEPEST), method="bounded").x))


def stated_probabilities(real: pl.DataFrame) -> Floats:
    """Probability that first is better, the slope fitted on the *other* data sets alone; `[n]`.

    With one data set there is no other to learn from: the cheap rung's own noise speaks.
    """
    folders = real["data"].unique().to_list()
    if len(folders) < 2:
        return np.asarray(real["raw"].to_numpy(), dtype=np.float64)
    found = np.empty(real.height)
    for folder in folders:
        mine = (real["data"] == folder).to_numpy()
        b = slope(real.filter(pl.col("data") != folder))
        found[mine] = 1 / (1 + np.exp(-np.clip(b * real["x"].to_numpy()[mine], -50, 50)))
    return found
