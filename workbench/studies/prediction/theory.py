"""The rung of theory alone: no training, the signal's weight and the start's hit probabilities.

A step of Adam has a size of its own, so what tells strategies apart is the direction of the mean
update and how much of a batch's update is noise. Take prompts' gradients of log p as orthogonal:
the expected update has the component w(p) along each (`recast.theory.objective`), a sampled group
adds a part of its misses that points elsewhere. A metric climbs with v(p) = dm / dlog p. The score
of a strategy on a metric is the cosine of the two, E[w v] / sqrt(E[u^2] E[v^2]) with E[u^2] the
second moment of a group's update. It cannot see that prompts share parameters.

Where nobody knows the hit probabilities, the share of hits in one group of each prompt stands for
them: noisy, and without a bias of the mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recast.metrics import PASSES
from recast.strategies import parse_strategy
from recast.theory.by_hits import by_hits
from recast.theory.learnability import binomial_pmf
from recast.theory.objective import weight
from sim.seeds import stream
from workbench.spec.metrics import LM_METRICS
from workbench.studies.prediction.protocol import START, Floats

COUNTED_PROMPTS = 512
"""Prompts, with one group each, from which the study counts hits."""


def climbs(metric: str, p: Tensor) -> Tensor:
    """v(p): how a metric grows with log p at hit probabilities p `[P]`; `[P]`. Ranks are taken to
    grow with log p itself."""
    if metric in ("hr_at_10", "ndcg_at_10", "hr_at_1"):
        return torch.ones_like(p)
    ks = {"pass_at_1": (1,), "pass_at_32": (32,), "c_at_1": (1,), "area": PASSES}[metric]
    return torch.stack([k * p * (1 - p) ** (k - 1) for k in ks]).mean(0)


def score(strategy: str, p: Tensor, group: int, metric: str) -> float | None:
    """The score on hit probabilities p `[P]`, float64; None where hits alone do not decide what
    the strategy learns."""
    if strategy == START:
        return 0.0
    chosen = parse_strategy(strategy)
    try:
        w, table = weight(chosen, p, group), by_hits(chosen, group)
    except ValueError:
        return None
    k = torch.arange(table.width + 1, dtype=torch.float64)
    scale = chosen.policy_weight / table.divisor
    alone = table.hit.square() / k.clamp(min=1) + table.anchor.square()
    elsewhere = (scale**2) * table.mean(table.square - alone).mean(0).clamp(min=0)
    push = scale * table.mean(table.hit + table.anchor).mean(0)
    pull = (scale * table.mean(table.miss).mean(0)).masked_fill(table.apart, 0.0)
    # A miss pushes along grad log p as well: -p / (1 - p) of it, on average.
    odds = (p / (1 - p).clamp(min=1e-12)).unsqueeze(-1)
    along = push - pull * odds + w.supervised.unsqueeze(-1)
    pmf = binomial_pmf(p, table.width)
    second = pmf @ elsewhere + (pmf * along.square()).sum(-1)
    second = torch.maximum(second, w.total.square())
    v = climbs(metric, p)
    size = (second.mean() * v.square().mean()).sqrt()
    return float((w.total * v).mean() / size) if float(size) > 0 else 0.0


def scores(rows: Sequence[str], p: Tensor, group: int) -> dict[tuple[str, str], float | None]:
    """`score` by (strategy, metric), at hit probabilities p `[P]`."""
    return {(row, metric): score(row, p, group, metric) for row in rows for metric in LM_METRICS}


def counted(hits: Floats, group: int) -> Floats:
    """The share of hits in one group of each of `COUNTED_PROMPTS` prompts, or fewer where there are
    fewer, drawn from hit probabilities `[P]`; what a training log tells of them."""
    rng = stream(0, "prediction/counted")
    picked = rng.permutation(len(hits))[:COUNTED_PROMPTS]
    return np.asarray(rng.binomial(group, hits[picked]) / group, dtype=np.float64)


def differences(known: Mapping[str, float]) -> pl.DataFrame:
    """first, second, difference of their scores, spread (standard deviation over rows), of every
    pair of rows, in their order."""
    pairs = list(itertools.combinations(known, 2))
    return pl.DataFrame(
        {
            "first": [a for a, _ in pairs],
            "second": [b for _, b in pairs],
            "difference": [known[a] - known[b] for a, b in pairs],
            "spread": [float(np.std(list(known.values()), ddof=1)) if pairs else 0.0] * len(pairs),
        },
        schema_overrides={"difference": pl.Float64, "spread": pl.Float64},
    )
