"""Credit that depends on how likely the policy held each rollout to be.

Advantages are `[..., B, G]`; conventions as in `recast.stages.credit`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recast.groups import RolloutGroups
from recast.stages.normalise import deviations, kept_reward, standardised


def lens(groups: RolloutGroups, alpha: float = 0.25, eps: float = 1e-6) -> Tensor:
    """GRPO on r - (1 - r) / n x q / (D - q), q a rollout's probability per code (geometric mean).

    Confident misses cost more. D is twice the largest q of the group, and in a group with a hit at
    least 1 over its mean of r / q. A group without hits is centred, not divided, and scaled by
    alpha; so the misses that the policy held least likely rise. Binary rewards. Raises ValueError
    without `logp`. Source: LENS, arXiv 2510.08696, equation 10 and section 5.
    """
    if groups.logp is None:
        raise ValueError("credit=lens needs `logp` in the groups")
    valid, reward = groups.valid, kept_reward(groups)
    count = valid.sum(-1, keepdim=True).clamp(min=1)
    # Where q vanishes r / q would not be finite: e^-60 per code is no more than a guard.
    q = groups.logp.mean(-1).clamp(min=-60.0, max=0.0).exp() * valid
    bound = 2 * q.amax(-1, keepdim=True)
    inverse = (reward / torch.where(valid, q, 1.0)).sum(-1, keepdim=True) / count
    found = groups.some_hit
    bound = torch.where(found, torch.maximum(bound, 1 / torch.where(found, inverse, 1.0)), bound)
    penalty = (1 - reward) / count * q / torch.where(valid, bound - q, 1.0)
    value = (reward - penalty) * valid
    centred, largest, _ = deviations(value, valid)
    alone = alpha * torch.where(largest > 0, centred, 0.0)
    return torch.where(found, standardised(value, valid, eps), alone)
