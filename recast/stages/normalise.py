"""Means and spreads over the rollouts of a group, as credits use them.

Shapes `[..., B, G]`; statistics `[..., B, 1]`. What is constant within a relative 1e-6 counts as
exactly constant, at any scale of the rewards and in either precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recast.groups import RolloutGroups


def kept_reward(groups: RolloutGroups) -> Tensor:
    """The reward, 0 outside the group; `[..., B, G]`."""
    return groups.reward * groups.valid


def token_count(groups: RolloutGroups) -> Tensor:
    """Tokens of each rollout, 0 outside the group; without `length` one each."""
    present = groups.valid.to(groups.reward.dtype)
    return present if groups.length is None else groups.length * present


def standardised(value: Tensor, valid: Tensor, eps: float, ddof: int = 1) -> Tensor:
    """(value - mean) / (spread + eps) over the last axis, exactly 0 where values are constant."""
    centred, largest, count = deviations(value, valid)
    scale = standard_deviation(centred, largest, count, ddof) + eps
    return centred / torch.where(largest > 0, scale, torch.inf)


def centred_reward(groups: RolloutGroups) -> Tensor:
    """r - m on selected rollouts, exactly 0 where the group is constant; `[..., B, G]`."""
    centred, largest, _ = deviations(groups.reward, groups.valid)
    return torch.where(largest > 0, centred, 0.0)


def constant(groups: RolloutGroups) -> Tensor:
    """Groups whose rewards are all alike, or that have none; bool `[..., 1]`."""
    return deviations(groups.reward, groups.valid)[1] == 0


def deviations(value: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value minus mean on valid entries, its largest size and their number; `[..., G]`, `[..., 1]`.

    The largest size is exactly 0 where the values are constant within a relative 1e-6, whatever the
    deviations are.
    """
    count = valid.sum(-1, keepdim=True).to(value.dtype)
    mean = (value * valid).sum(-1, keepdim=True) / count.clamp(min=1)
    centred = (value - mean) * valid
    high, low = centred.amax(-1, keepdim=True), centred.amin(-1, keepdim=True)
    size = torch.maximum(mean + high, -low - mean)
    varied = high - low > 1e-6 * size
    return centred, torch.maximum(high, -low).masked_fill(~varied, 0.0), count


def standard_deviation(centred: Tensor, largest: Tensor, count: Tensor, ddof: int) -> Tensor:
    """Standard deviation of centred values, 0 where they are constant; `[..., 1]`.

    Squares of 1e30 overflow float32 and squares of 1e-30 vanish, so they are taken in units of the
    largest deviation.
    """
    unit = centred / torch.where(largest > 0, largest, 1.0)
    norm: Tensor = torch.linalg.vector_norm(unit, dim=-1, keepdim=True)
    return norm / (count - ddof).clamp(min=1).sqrt() * largest


def over(value: Tensor, scale: Tensor) -> Tensor:
    """value / scale. A value over 0, or over the NaN of an empty group, is 0 and stays."""
    return value / torch.where(scale > 0, scale, 1.0)


def batch_mean(groups: RolloutGroups) -> Tensor:
    """Mean reward over the batch's valid rollouts; `[...]`."""
    return kept_reward(groups).sum((-2, -1)) / groups.valid.sum((-2, -1)).clamp(min=1)
