"""A question about one's own case: which strategy would do better, and how sure is that?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from workbench.spec.metrics import LM_METRICS
from workbench.stats.samples import Floats
from workbench.stats.seeds_by_users import gaps
from workbench.studies.measures import CONTROL
from workbench.studies.prediction import saved
from workbench.studies.prediction.protocol import START
from workbench.studies.prediction.study import COUNTED
from workbench.studies.prediction.theory import differences, score

WIDEST = 1024
FEWEST_GROUPS = 256
RECORDED_HITS = (0.00025, 0.02)
RECORDED_GROUP = (16, 64)
"""Where the record of theory on counted hits may speak of a log: groups it has, its mean share of
hits (those of the study within a factor of two), its rollouts per prompt (the study's are 32)."""


@dataclass(frozen=True)
class PredictedRanking:
    """rung; metric; table: strategy and value, best first, with beats_next and beats_sft
    (probability that it is better than the next one, and than supervision, on a language model;
    None where nothing is stated); pairs: first, second, difference,
    p_holm (in the rung's own world), probability (that first is better on a language model);
    trusted: whether the rung may speak of language models on this metric; record: why, in words;
    notes: what else to know, a sentence each."""

    rung: str
    metric: str
    table: pl.DataFrame
    pairs: pl.DataFrame
    trusted: bool
    record: str
    notes: tuple[str, ...] = ()


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
    spread = float(means.std(ddof=1))
    found = [
        {
            "first": names[one.i],
            "second": names[one.j],
            "difference": one.difference,
            "p_holm": one.p_holm,
            "probability": _chance(rung, metric, one.difference, spread) if trusted else None,
        }
        for one in gaps(mine, users)
    ]
    pairs = pl.DataFrame(found, schema_overrides={"probability": pl.Float64})
    return PredictedRanking(
        rung, metric, _best_first(names, means[order].tolist(), pairs), pairs, trusted, record
    )


def answer_of_hits(
    hits: Floats,
    group: int,
    strategies: Sequence[str],
    metric: str,
    beam: bool = False,
    rung: str = COUNTED,
) -> PredictedRanking:
    """What theory alone says, of the shares of hits in a log's groups `[N]`, or with `rung` THEORY
    of a model's own hit probabilities; nothing is trained.

    group: rollouts per prompt; beam: whether the groups are beam sets, of which theory knows
    nothing. The table holds the start too: the score 0. Raises ValueError, one phrase, where the
    hits cannot tell strategies apart.
    """
    if not 2 <= group <= WIDEST:
        raise ValueError(f"groups of {group}; expected 2 to {WIDEST} rollouts")
    if not hits.any():
        raise ValueError(f"none of {len(hits)} groups has a hit; expected some")
    p = torch.from_numpy(hits)
    known = {row: score(row, p, group, metric) for row in (START, *strategies)}
    silent = [row for row, value in known.items() if value is None]
    told = {row: value for row, value in known.items() if value is not None}
    ranked = dict(sorted(told.items(), key=lambda one: -one[1]))
    trusted, record = saved.worth(rung, metric)
    outside = _outside_the_record(hits, group, beam)
    trusted = trusted and not outside
    notes = list(outside)
    if silent:
        notes.append(f"Left out, hits alone do not decide what they learn: {', '.join(silent)}.")
    pairs = differences(ranked).select(
        *("first", "second", "difference"),
        p_holm=pl.lit(None, dtype=pl.Float64),
        probability=pl.struct("difference", "spread").map_elements(
            lambda pair: _chance(rung, metric, pair["difference"], pair["spread"]),
            return_dtype=pl.Float64,
        )
        if trusted
        else pl.lit(None, dtype=pl.Float64),
    )
    table = _best_first(list(ranked), list(ranked.values()), pairs)
    return PredictedRanking(rung, metric, table, pairs, trusted, record, tuple(notes))


def _outside_the_record(hits: Floats, group: int, beam: bool) -> list[str]:
    """Why the record says nothing of a log, a sentence each."""
    low, high = RECORDED_HITS
    least, most = RECORDED_GROUP
    mean = float(hits.mean())
    said = []
    if beam:
        said.append("These groups are beam sets; theory takes rollouts for independent samples.")
    if len(hits) < FEWEST_GROUPS:
        said.append(f"{len(hits)} groups say little: a probability needs {FEWEST_GROUPS}.")
    if not low <= mean <= high:
        said.append(
            f"{mean:.2%} of these rollouts hit; the record is of {low:.2%} to {high:.2%} alone."
        )
    if not least <= group <= most:
        said.append(f"Groups of {group}; the record is of 32, and taken for {least} to {most}.")
    return said


def _chance(rung: str, metric: str, difference: float, spread: float) -> float:
    """The probability that a strategy is better on a language model, from its lead on a rung."""
    x = difference / spread if spread > 0 else 0.0
    return float(1 / (1 + np.exp(-min(saved.slope_of(rung, metric) * x, 50.0))))


def _best_first(names: Sequence[str], values: Sequence[float], pairs: pl.DataFrame) -> pl.DataFrame:
    """strategy, value, beats_next, beats_sft: the probabilities that it beats the next one, and
    supervision."""
    beside: dict[tuple[str, str], float | None] = {
        (row["first"], row["second"]): row["probability"] for row in pairs.to_dicts()
    }

    def beats(one: str, other: str) -> float | None:
        if (one, other) in beside:
            return beside[one, other]
        turned = beside.get((other, one))
        return None if turned is None else 1 - turned

    return pl.DataFrame(
        {
            "strategy": names,
            "value": values,
            "beats_next": [*(beats(a, b) for a, b in itertools.pairwise(names)), None],
            "beats_sft": [beats(name, CONTROL) for name in names],
        },
        schema_overrides={"beats_next": pl.Float64, "beats_sft": pl.Float64},
    )
