"""A question about one's own case: which strategy would do better, and how sure is that?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench.spec.metrics import LM_METRICS
from workbench.stats.crossed import gaps
from workbench.stats.samples import Floats
from workbench.studies.prediction import saved


@dataclass(frozen=True)
class PredictedRanking:
    """rung; metric; table: strategy and value, best first, with probability (that it beats the next
    one on a language model, None where nothing is stated); pairs: first, second, difference,
    p_holm (in the rung's own world), probability (that first is better on a language model);
    trusted: whether the rung may speak of language models on this metric; record: why, in words."""

    rung: str
    metric: str
    table: pl.DataFrame
    pairs: pl.DataFrame
    trusted: bool
    record: str


def answer(
    rung: str, metric: str, rows: Sequence[str], values: Floats, users: Sequence[str]
) -> PredictedRanking:
    """What a rung's runs say on a metric; values `[rows, metrics, seeds, prompts]`.

    Probabilities are stated by the packaged study's slope alone; where the rung's record on the
    metric is too poor, none is.
    """
    mine = values[:, LM_METRICS.index(metric)]
    means = mine.mean((1, 2))
    order = np.argsort(-means, kind="stable")
    mine, names = mine[order], [rows[i] for i in order]
    trusted, record = saved.worth(rung, metric)
    b = saved.slope_of(rung, metric) if trusted else None
    spread = float(means.std(ddof=1))
    found = []
    for one in gaps(mine, users):
        x = one.difference / spread if spread > 0 else 0.0
        chance = None if b is None else float(1 / (1 + np.exp(-min(b * x, 50.0))))
        found.append(
            {
                "first": names[one.i],
                "second": names[one.j],
                "difference": one.difference,
                "p_holm": one.p_holm,
                "probability": chance,
            }
        )
    pairs = pl.DataFrame(found, schema_overrides={"probability": pl.Float64})
    beside = {(row["first"], row["second"]): row["probability"] for row in found}
    chances = [beside.get((a, c)) for a, c in itertools.pairwise(names)]
    table = pl.DataFrame(
        {"strategy": names, "value": means[order], "beats_next": [*chances, None]},
        schema_overrides={"beats_next": pl.Float64},
    )
    return PredictedRanking(rung, metric, table, pairs, trusted, record)
