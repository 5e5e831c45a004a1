"""The supervised term: what a strategy learns from the ground truth itself.

Each function maps `Evidence` to a loss per prompt `[..., B]` and is a row of `SUPERVISED`. The
trainer averages it over the prompts and adds it to the policy's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recast.stage import Bound, Stage


@dataclass(frozen=True)
class Evidence:
    """What a supervised term may look at, nats.

    target_logp `[..., B, L]`: log-probability of each code of the target under the policy, with
    gradient; target_ref_logp: the same under the reference. progress: share of training done, in
    [0, 1], for schedules. hits, valid `[..., B]`: hits and rollouts of each group as sampled.
    rows_logp, rows_ref_logp `[..., B, U]`: the same, summed over codes, of the rollouts that reach
    the actor; rows `[..., B, U]` marks them.
    """

    target_logp: Tensor
    target_ref_logp: Tensor | None = None
    progress: float = 1.0
    hits: Tensor | None = None
    valid: Tensor | None = None
    rows_logp: Tensor | None = None
    rows_ref_logp: Tensor | None = None
    rows: Tensor | None = None


def none(evidence: Evidence) -> Tensor:
    """No supervised term."""
    return torch.zeros_like(evidence.target_logp[..., 0])


def sft(evidence: Evidence, weight: float = 1.0) -> Tensor:
    """weight x -log p(target)."""
    return -weight * evidence.target_logp.sum(-1)


def power(evidence: Evidence, start: float = 0.0, end: float = 0.25, weight: float = 1.0) -> Tensor:
    """weight x p^alpha x -log p(target), p detached, alpha going linearly from start to end.

    alpha 0 is supervised training, alpha 1 the exact policy gradient of a single target.
    """
    alpha = start + (end - start) * evidence.progress
    logp = evidence.target_logp.sum(-1)
    return -weight * (alpha * logp.detach()).exp() * logp


def power_hits(
    evidence: Evidence, start: float = 0.0, end: float = 0.25, weight: float = 1.0
) -> Tensor:
    """As `power`, with p estimated from the rollouts: (hits + .5) / (G + 1).

    Raises ValueError without `hits` and `valid` of each group.
    """
    if evidence.hits is None or evidence.valid is None:
        raise ValueError("supervised=power_hits needs the hits of each group")
    alpha = start + (end - start) * evidence.progress
    logp = evidence.target_logp.sum(-1)
    estimate = (evidence.hits.to(logp.dtype) + 0.5) / (evidence.valid + 1)
    return -weight * estimate**alpha * logp


def chord(evidence: Evidence, mu: float = 0.1) -> Tensor:
    """mu x mean over the target's codes of -p (1 - p) log p, p (1 - p) detached.

    Source: CHORD-phi, arXiv 2508.11408; Trinity-RFT.
    """
    logp = evidence.target_logp
    p = logp.detach().exp()
    return -mu * (p * (1 - p) * logp).mean(-1)


def s_dpo(evidence: Evidence, beta: float = 0.1) -> Tensor:
    """-log sigmoid(-log sum_j exp(beta (d_j - d_target))), d = log policy - log reference.

    j runs over the rollouts that reach the actor; a prompt without any gets 0. One negative: DPO,
    arXiv 2305.18290. Several: S-DPO, arXiv 2406.09215.
    Raises ValueError without rollouts or without the reference's log-probabilities.
    """
    parts = (evidence.target_ref_logp, evidence.rows_logp, evidence.rows_ref_logp, evidence.rows)
    if any(part is None for part in parts):
        raise ValueError("supervised=s_dpo needs negatives and the reference's log-probabilities")
    target_ref, rows_logp, rows_ref, rows = (part for part in parts if part is not None)
    target = (evidence.target_logp - target_ref).sum(-1)
    margin = beta * (rows_logp - rows_ref - target.unsqueeze(-1))
    some = rows.any(-1)
    # A prompt without negatives would be log 0, whose gradient is NaN even when masked.
    inside = margin.masked_fill(~rows, -torch.inf).masked_fill(~some.unsqueeze(-1), 0.0)
    return -torch.nn.functional.logsigmoid(-inside.logsumexp(-1)).masked_fill(~some, 0.0)


SUPERVISED: Mapping[str, Stage] = {
    "none": Stage(none, idle=True),
    "sft": Stage(sft, needs={"target"}),
    "power": Stage(power, needs={"target"}),
    "power_hits": Stage(power_hits, needs={"target", "rollouts"}),
    "chord": Stage(chord, needs={"target"}, by_code=True),
    "s_dpo": Stage(s_dpo, needs={"target", "rollouts", "negatives", "reference"}),
}


class Slope(NamedTuple):
    """Closed form of the derivative of a supervised term by the log-probability of each code of
    the target: -(weight p^power estimate^hits_power + chord p_code (1 - p_code)), with p that of
    the whole target and estimate = (hits + .5) / (G + 1)."""

    weight: float = 0.0
    power: float = 0.0
    hits_power: float = 0.0
    chord: float = 0.0


def _alpha(progress: float, start: float = 0.0, end: float = 0.25) -> float:
    return start + (end - start) * progress


SLOPES: Mapping[Callable[..., Tensor], Callable[..., Slope]] = {
    none: lambda progress, depth: Slope(),
    sft: lambda progress, depth, weight=1.0: Slope(weight),
    power: lambda progress, depth, weight=1.0, **ends: Slope(
        weight, power=_alpha(progress, **ends)
    ),
    power_hits: lambda progress, depth, weight=1.0, **ends: Slope(
        weight, hits_power=_alpha(progress, **ends)
    ),
    chord: lambda progress, depth, mu=0.1: Slope(chord=mu / depth),
}
"""Function of a supervised stage -> its slope, given progress, the codes L of an item and its
options. A term that is not here has none, and is differentiated by autograd."""


def slope_of(term: Bound, progress: float, depth: int) -> Slope | None:
    """The slope of a supervised term at some progress of training, where it has a closed form."""
    found = SLOPES.get(term.stage.function)
    return None if found is None else found(progress, depth, **term.given)
