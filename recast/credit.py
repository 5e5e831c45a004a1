"""Credit: the advantage of each selected rollout.

Each function maps `RolloutGroups`, already narrowed to the selected rollouts, to advantages
`[..., B, G]` (unitless) and is a key of `CREDITS`. Unselected and padded rollouts get 0. A group
whose rewards are constant (within a relative tolerance of 1e-6) gets exactly 0 from every
mean-centred formula, and so does a group of one.

m and s are the group's mean and sample standard deviation (ddof 1), n its number of selected
rollouts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from recast.groups import RolloutGroups


def nothing(groups: RolloutGroups) -> Tensor:
    """0 for everyone: the strategy learns from its supervised term alone."""
    return torch.zeros_like(groups.reward)


def grpo(groups: RolloutGroups, eps: float = 1e-6) -> Tensor:
    """(r - m) / (s + eps). Source: verl `compute_grpo_outcome_advantage`; TRL uses eps 1e-4."""
    centred = _centred(groups)
    count = groups.valid.sum(-1, keepdim=True)
    # Squares of 1e30 overflow float32 and squares of 1e-30 vanish, so they are taken in units of
    # the largest deviation. A constant group has none, and 0 / 1 is 0 even at eps = 0.
    largest = centred.abs().amax(-1, keepdim=True)
    live = largest > 0
    unit = centred / torch.where(live, largest, 1.0)
    spread = (unit.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt() * largest
    return centred / torch.where(live, spread + eps, 1.0)


def dr_grpo(groups: RolloutGroups) -> Tensor:
    """r - m. Source: arXiv 2503.20783; TRL `scale_rewards="none"`."""
    return _centred(groups)


def rloo(groups: RolloutGroups) -> Tensor:
    """r minus the mean of the others = n / (n - 1) (r - m). Source: arXiv 2402.14740."""
    count = groups.valid.sum(-1, keepdim=True).to(groups.reward.dtype)
    return _centred(groups) * (count / (count - 1).clamp(min=1))


def reinforce(groups: RolloutGroups) -> Tensor:
    """r minus the mean over every rollout of the batch (axes B and G).

    Negative on an all-zero group as soon as another group of the batch has a hit.
    """
    count = groups.valid.sum((-2, -1), keepdim=True).clamp(min=1)
    baseline = _kept_reward(groups).sum((-2, -1), keepdim=True) / count
    return (groups.reward - baseline).masked_fill(~groups.valid, 0.0)


def sign(groups: RolloutGroups, negative_weight: float = 1.0) -> Tensor:
    """+1 on a hit, -negative_weight on a miss. Source: arXiv 2604.22169, section 3 (w = 1)."""
    return groups.hit.to(groups.reward.dtype) - negative_weight * groups.miss.to(
        groups.reward.dtype
    )


def _kept_reward(groups: RolloutGroups) -> Tensor:
    return groups.reward.masked_fill(~groups.valid, 0.0)


def _centred(groups: RolloutGroups) -> Tensor:
    """r - m on selected rollouts, exactly 0 where the group is constant; `[..., B, G]`."""
    reward, valid = groups.reward, groups.valid
    count = valid.sum(-1, keepdim=True).clamp(min=1)
    mean = _kept_reward(groups).sum(-1, keepdim=True) / count
    high = reward.masked_fill(~valid, -torch.inf).amax(-1, keepdim=True)
    low = reward.masked_fill(~valid, torch.inf).amin(-1, keepdim=True)
    constant = high - low <= 1e-6 * torch.maximum(high.abs(), low.abs())
    return (reward - mean).masked_fill(constant | ~valid, 0.0)


Credit = Callable[..., Tensor]

CREDITS: Mapping[str, Credit] = MappingProxyType(
    {
        "none": nothing,
        "grpo": grpo,
        "dr_grpo": dr_grpo,
        "rloo": rloo,
        "reinforce": reinforce,
        "sign": sign,
    }
)
