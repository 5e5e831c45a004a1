"""Credit whitened over the tokens of the batch.

Advantages are `[..., B, G]`; conventions as in `recast.stages.credit`; batch statistics run
over the axes B and G.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recast.groups import RolloutGroups
from recast.stages.normalise import (
    centred_reward,
    deviations,
    kept_reward,
    standardised,
    token_count,
)


def reinforce_pp(groups: RolloutGroups, eps: float = 1e-8) -> Tensor:
    """Reward whitened over the batch's tokens: each rollout counts `length` times.

    Variance with Bessel's correction on the number of tokens, eps inside the root. Exactly 0 when
    every reward of the batch is the same.
    Source: arXiv 2501.03262; verl `compute_reinforce_plus_plus_outcome_advantage`.
    """
    return whitened(kept_reward(groups), groups, eps)


def reinforce_pp_baseline(groups: RolloutGroups, eps: float = 1e-8) -> Tensor:
    """r - m, whitened over the batch's tokens as in `reinforce_pp`.

    Responses of unequal length shift a constant group away from 0; semantic IDs are equally long.
    Source: arXiv 2501.03262; verl `compute_reinforce_plus_plus_baseline_outcome_advantage`.
    """
    return whitened(centred_reward(groups), groups, eps, sums_to_zero=True)


def gdpo(groups: RolloutGroups, weight: float = 1.0, eps: float = 1e-6) -> Tensor:
    """GRPO on the reward plus weight x GRPO on the share of matched codes, then whitened.

    Each reward is normalised within the group by itself, so that the rarer one is not drowned; the
    sum is whitened over the batch's tokens. A hit has a share of 1. Raises ValueError without
    `matched` and `depth`. Source: GDPO, arXiv 2601.05242; verl `compute_gdpo_outcome_advantage`.
    """
    if groups.matched is None or not groups.depth:
        raise ValueError("credit=gdpo needs `matched` and `depth` in the groups")
    share = groups.matched.clamp(min=0, max=groups.depth) / groups.depth
    share = torch.where(groups.hit, 1.0, share.to(groups.reward.dtype))
    value = standardised(groups.reward, groups.valid, eps)
    value = value + weight * standardised(share, groups.valid, eps)
    return whitened(value, groups, 1e-8, sums_to_zero=True)


def whitened(
    value: Tensor, groups: RolloutGroups, eps: float, *, sums_to_zero: bool = False
) -> Tensor:
    """value `[..., B, G]` minus its mean over the batch's tokens, over its standard deviation.

    Exactly 0 when every value of the batch is the same, and outside the group. sums_to_zero: each
    group's values do, so that groups of equally long rollouts have a mean of exactly 0 and a silent
    group stays at exactly 0, not at what rounding leaves of the others.
    """
    length = token_count(groups)
    tokens = length.sum((-2, -1), keepdim=True)
    weight = length
    if sums_to_zero:
        count = groups.valid.sum(-1, keepdim=True).clamp(min=1)
        weight = (length - length.sum(-1, keepdim=True) / count) * groups.valid
    mean = (weight * value).sum((-2, -1), keepdim=True) / tokens
    centred = (value - mean).masked_fill(~groups.valid, 0.0)
    # In units of the largest deviation, for the same reason as in `standard_deviation`.
    largest = centred.abs().amax((-2, -1), keepdim=True)
    square = (length * (centred / largest).square()).sum((-2, -1), keepdim=True)
    spread = (square / (tokens - 1)).sqrt() * largest
    root = torch.hypot(spread, torch.full_like(spread, eps**0.5))
    varied = deviations(value.flatten(-2), groups.valid.flatten(-2))[1].unsqueeze(-1) > 0
    # Without variance the root is NaN or the mere eps, and what is divided by it does not count.
    return torch.where(varied, centred / root, 0.0)
