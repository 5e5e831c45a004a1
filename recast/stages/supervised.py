"""The supervised term: what a strategy learns from the ground truth itself.

Each function maps `Evidence` to a loss per prompt `[..., B]` and is a row of `SUPERVISED`. The
trainer averages it over the prompts and adds it to the policy's loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from recast.stage import WIDEST, Bound, Stage


@dataclass(frozen=True)
class Evidence:
    """What a supervised term may look at, nats.

    target_logp `[..., B, L]`: log-probability of each code of the target under the policy, with
    gradient; target_ref_logp: the same under the reference. progress: share of training done, in
    [0, 1], for schedules. hits, valid `[..., B]`: hits and rollouts of each group as sampled.
    rows_logp, rows_ref_logp `[..., B, U]`: the same, summed over codes, of the rollouts that reach
    the actor; rows `[..., B, U]` marks them. path_logp `[..., B, L, K]`: log-probability of every
    code that may follow each node on the target's way, -inf for others, without gradient. hinted
    `[..., B]` int64: leading codes of the target that were given to the rollouts. others: the same
    for each target of prompts that have several, see `Several`.
    """

    target_logp: Tensor
    target_ref_logp: Tensor | None = None
    progress: float = 1.0
    hits: Tensor | None = None
    valid: Tensor | None = None
    rows_logp: Tensor | None = None
    rows_ref_logp: Tensor | None = None
    rows: Tensor | None = None
    path_logp: Tensor | None = None
    hinted: Tensor | None = None
    others: Several | None = None


@dataclass(frozen=True)
class Several:
    """Every target of prompts that have up to M. known `[..., B, M]` bool: which there are; logp
    `[..., B, M, L]` with gradient, ref_logp, path_logp `[..., B, M, L, K]`: as in `Evidence`."""

    known: Tensor
    logp: Tensor
    ref_logp: Tensor | None = None
    path_logp: Tensor | None = None

    def each(self, evidence: Evidence) -> Iterator[tuple[Evidence, Tensor]]:
        """What is known of each target, and the prompts that have it, bool `[..., B]`."""
        for m in range(self.known.shape[-1]):
            one = replace(
                evidence,
                target_logp=self.logp[..., m, :],
                target_ref_logp=None if self.ref_logp is None else self.ref_logp[..., m, :],
                path_logp=None if self.path_logp is None else self.path_logp[..., m, :, :],
            )
            yield one, self.known[..., m]


def of_all_targets(term: Bound, evidence: Evidence) -> Tensor:
    """A supervised term per prompt, `[..., B]`: its mean over the prompt's targets.

    A term that is `Stage.whole` is evaluated once, and so is every term where one target is known.
    """
    others = evidence.others
    if others is None or term.stage.whole:
        found: Tensor = term(evidence)
        return found
    values = torch.stack([term(one) * known for one, known in others.each(evidence)], -1)
    return values.sum(-1) / others.known.sum(-1)


def none(evidence: Evidence) -> Tensor:
    """No supervised term."""
    return torch.zeros_like(evidence.target_logp[..., 0])


def sft(evidence: Evidence, weight: float = 1.0) -> Tensor:
    """weight x -log p(target)."""
    return -weight * evidence.target_logp.sum(-1)


def power(evidence: Evidence, start: float = 0.0, end: float = 0.25, weight: float = 1.0) -> Tensor:
    """weight x p^alpha x -log p(target), p detached, alpha going linearly from start to end.

    alpha 0 is supervised training, alpha 1 the exact policy gradient of a single target. At a
    fixed alpha the gradient of generalised cross-entropy, `gce`.
    Source: arXiv 1805.07836.
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


def gce(evidence: Evidence, q: float = 0.25) -> Tensor:
    """(1 - p^q) / q: between -log p (q to 0) and 1 - p (q = 1), less moved by targets that cannot
    be learnt. Source: generalised cross-entropy, Zhang and Sabuncu, arXiv 1805.07836.
    """
    return -(q * evidence.target_logp.sum(-1)).expm1() / q


def gce_code(evidence: Evidence, q: float = 0.7) -> Tensor:
    """`gce` of each code, summed over the target's codes; q = .7 as in arXiv 1805.07836."""
    return -((q * evidence.target_logp).expm1() / q).sum(-1)


def dft(evidence: Evidence) -> Tensor:
    """Sum over the target's codes of -p log p, p detached.

    Source: dynamic fine-tuning, arXiv 2508.05629; TRL `SFTTrainer`, loss_type="dft".
    """
    logp = evidence.target_logp
    return -(logp.detach().exp() * logp).sum(-1)


def exact_pass_at_k(evidence: Evidence, k: int = 8) -> Tensor:
    """k p (1 - p)^(k - 1) x -log p, the factor detached: the exact gradient of Pass@k."""
    logp = evidence.target_logp.sum(-1)
    p = logp.detach().exp()
    return -(k * p * (1 - p).clamp(min=0) ** (k - 1)) * logp


def exact_maxrl(evidence: Evidence, n: int = 32) -> Tensor:
    """(1 - (1 - p)^n) x -log p, the factor detached: what MaxRL of n + 1 rollouts estimates.

    n 1 is the exact policy gradient, a large n supervised training. Source: arXiv 2602.02710.
    """
    logp = evidence.target_logp.sum(-1)
    miss = (-logp.detach().exp().clamp(max=1)).log1p()
    return (n * miss).expm1() * logp


def sft_pg(evidence: Evidence, b: float = 1.0) -> Tensor:
    """(1 + b p) x -log p, p detached: supervised training plus b x the exact policy gradient."""
    logp = evidence.target_logp.sum(-1)
    return -(1 + b * logp.detach().exp()) * logp


def sft_any(evidence: Evidence) -> Tensor:
    """-log of the summed probability of every target; `sft` for a prompt with one."""
    if evidence.others is None:
        return -evidence.target_logp.sum(-1)
    each = evidence.others.logp.sum(-1)
    return -each.masked_fill(~evidence.others.known, -torch.inf).logsumexp(-1)


def bear(evidence: Evidence, beam: int = 10, weight: float = 0.25, xi: float = 2.75) -> Tensor:
    """Sum over the target's codes of -(1 + weight sigmoid((log p - log q) / xi)) log p, factor
    detached; q: probability of the `beam`-th likeliest code there, of the least likely one where
    there are fewer.

    Its factor is the slope of the log of a sigmoid of how far a code lies from what a beam of that
    width would cut. Where the other codes are not known, every code stands on the cut.
    Source: BEAR, arXiv 2601.22925.
    """
    logp = evidence.target_logp
    margin = torch.zeros_like(logp).detach()
    if evidence.path_logp is not None:
        ranked = evidence.path_logp.sort(-1, descending=True).values
        last = ranked.isfinite().sum(-1, keepdim=True).clamp(min=1, max=beam) - 1
        margin = logp.detach() - ranked.gather(-1, last).squeeze(-1)
    return -((1 + weight * torch.sigmoid(margin / xi)) * logp).sum(-1)


def hint(evidence: Evidence, weight: float = 1.0) -> Tensor:
    """weight x -log p of the target's codes that were given to the rollouts as a hint.

    Source: as in the hints of Scaf-GRPO, arXiv 2510.19807, on semantic IDs.
    """
    logp = evidence.target_logp
    given = logp.new_zeros(logp.shape[:-1]) if evidence.hinted is None else evidence.hinted
    level = torch.arange(logp.shape[-1], device=logp.device)
    return -weight * (logp * (level < given.unsqueeze(-1))).sum(-1)


SUPERVISED: Mapping[str, Stage] = {
    "none": Stage(none, idle=True),
    "sft": Stage(sft, needs={"target"}),
    "power": Stage(power, needs={"target"}),
    "power_hits": Stage(power_hits, needs={"target", "rollouts"}),
    "chord": Stage(chord, needs={"target"}, by_code=True),
    "s_dpo": Stage(s_dpo, needs={"target", "rollouts", "negatives", "reference"}),
    "gce": Stage(gce, needs={"target"}, bounds={"q": (1e-3, 1)}),
    "gce_code": Stage(gce_code, needs={"target"}, bounds={"q": (1e-3, 1)}, by_code=True),
    "dft": Stage(dft, needs={"target"}, by_code=True),
    "exact_pass_at_k": Stage(exact_pass_at_k, needs={"target"}, bounds={"k": (1, WIDEST)}),
    "exact_maxrl": Stage(exact_maxrl, needs={"target"}, bounds={"n": (1, WIDEST)}),
    "sft_pg": Stage(sft_pg, needs={"target"}),
    "sft_any": Stage(sft_any, needs={"target"}, whole=True),
    "bear": Stage(
        bear,
        needs={"target", "path"},
        bounds={"beam": (1, WIDEST), "xi": (1e-3, math.inf)},
        by_code=True,
    ),
    "hint": Stage(hint, needs={"target", "rollouts"}, by_code=True, whole=True),
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
    gce: lambda progress, depth, q=0.25: Slope(1.0, power=q),
}
"""Function of a supervised stage -> its slope, given progress, the codes L of an item and its
options. A term that is not here has none, and is differentiated by autograd."""


def slope_of(term: Bound, progress: float, depth: int) -> Slope | None:
    """The slope of a supervised term at some progress of training, where it has a closed form."""
    found = SLOPES.get(term.stage.function)
    return None if found is None else found(progress, depth, **term.given)
