"""Plans: what a shortcut draws for each prompt, and the weights that follow.

A plan looks at the scored path of each prompt's target, draws as little as its kind of signal
needs, and says what the walk has to deliver (`sim.shortcuts.walk.Demand`) and what the ledger has
to count.
Shapes: R runs, B prompts, P = R B flat prompts, G rollouts, L levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recast.loss import LossSettings
from recast.stages.supervised import Evidence
from recast.strategy import Strategy
from sim.shortcuts.walk import Demand, Generators, Path


@dataclass(frozen=True)
class Drawn:
    """What a plan drew for each prompt, `[P]`: rows that reach the actor, active ones with an
    advantage, repaired groups; hits as sampled; and the demand that follows. The weights in demand
    are the policy loss alone, supervised terms excluded."""

    demand: Demand
    rows: Tensor
    active: Tensor
    repaired: Tensor
    hits: Tensor


@dataclass(frozen=True)
class Plan:
    """draw(path, generators, B): one rollout phase of every prompt."""

    name: str
    draw: Callable[[Path, Generators, int], Drawn]


def target_plan() -> Plan:
    """For strategies that learn from the target alone: no rollouts."""
    return Plan("target", _nothing)


def _nothing(path: Path, rngs: Generators, prompts: int) -> Drawn:
    del rngs, prompts
    none = torch.zeros(len(path.leave), dtype=torch.int64)
    count = np.zeros(path.leave.shape, dtype=np.int64)
    demand = Demand(torch.zeros_like(path.logp), count, torch.zeros_like(path.logp))
    return Drawn(demand, none, none, none.bool(), none)


def kl_terms(
    loss: LossSettings, share: Tensor, hits: Tensor, like: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """What the KL term adds per group, `[P]` each in the type of `like`: the weight of a rollout's
    KL, and its number of hits. None, None without a KL term."""
    if not loss.kl_weight:
        return None, None
    return (loss.kl_weight * share).to(like.dtype), hits.to(like.dtype)


def share_of(
    strategy: Strategy, rows: Tensor, active: Tensor, prompts: int, width: int, depth: int
) -> Tensor:
    """What one rollout's loss is multiplied with: the policy's weight over the denominator;
    float64 `[P]`. rows, active `[P]`: rollouts of each group that reach the actor, and with credit.
    Equals `recast.loss.denominator` on groups of `width` valid rollouts.
    """
    by_run = (rows.view(-1, prompts), active.view(-1, prompts))
    rollouts = torch.full((len(by_run[0]),), prompts * width)
    divisor = {
        "rollouts": lambda: rollouts,
        "active": lambda: by_run[1].sum(-1).clamp(min=1),
        "tokens": lambda: (by_run[0].sum(-1) * depth).clamp(min=1),
        "prompts": lambda: torch.full_like(rollouts, prompts),
        "constant": lambda: rollouts * depth,
        "live_groups": lambda: rollouts * ((by_run[1] > 0).sum(-1).clamp(min=1).double() / prompts),
    }[strategy.denominator]()
    return (strategy.policy_weight / divisor.double()).repeat_interleave(prompts)


def supervise(
    strategy: Strategy, path: Path, hits: Tensor, group: int, prompts: int, progress: float
) -> Tensor:
    """Derivative of the supervised term by the log-probability of each code; `[P, L]`.

    Asked run by run: what a term computes may depend in its last bit on where a value lies.
    """
    slopes = []
    for logp, hit in zip(torch.split(path.logp, prompts), torch.split(hits, prompts), strict=True):
        leaf = logp.clone().unsqueeze(0).requires_grad_()
        valid = torch.full_like(hit, group).unsqueeze(0)
        evidence = Evidence(leaf, None, progress, hits=hit.clone().unsqueeze(0), valid=valid)
        with torch.enable_grad():
            value = strategy.stage("supervised")(evidence).mean(-1)
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        slopes.append(slope[0])
    return torch.cat(slopes)
