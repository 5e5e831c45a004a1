"""Credit against the other rollouts of a group: the mean, spread and Pass@k of the others.

Advantages are `[..., B, G]`; conventions as in `recast.stages.credit`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recast.groups import RolloutGroups
from recast.stages.normalise import centred_reward, deviations, kept_reward, standard_deviation


def nemo_loo(groups: RolloutGroups, eps: float = 1e-6) -> Tensor:
    """(r - mean of the others) / (standard deviation of the others + eps).

    Not divided where the others are all alike: a single hit gets 1 and its misses the more, so
    that a group's sum is negative while hits are rare. ddof 1 over the n - 1 others.
    Source: NeMo-RL `calculate_baseline_and_std_per_prompt` and `GRPOAdvantageEstimator`, its
    default.
    """
    count = groups.valid.sum(-1, keepdim=True).to(groups.reward.dtype)
    same = torch.eye(groups.valid.shape[-1], dtype=torch.bool, device=groups.valid.device)
    # Row i holds the rollouts other than i: spreads are taken apart, as differences of sums would
    # leave a rest where they are 0.
    others = groups.valid.unsqueeze(-2) & ~same
    reward = kept_reward(groups).unsqueeze(-2).expand(others.shape)
    centred, largest, rest = deviations(reward, others)
    spread = standard_deviation(centred, largest, rest, 1).squeeze(-1)
    scale = torch.where(largest.squeeze(-1) > 0, spread + eps, 1.0)
    value = centred_reward(groups) * (count / (count - 1).clamp(min=1)) / scale
    return value.masked_fill(~groups.valid, 0.0)


def pkpo(groups: RolloutGroups, k: int = 4) -> Tensor:
    """k (1 - rho(n-1, c-1, k)) on a hit, k (rho(n-1, c, k-1) - rho(n-1, c, k)) on a miss.

    rho(n, c, k) = 1 - C(n-c, k) / C(n, k) is the unbiased Pass@k of c hits among n. A rollout's
    value is the Pass@k of the sets of k that hold it, less the Pass@k of the others: with the loss
    divided by rollouts the exact gradient of Pass@k in expectation, as the baseline leaves the
    rollout out. 0 where n <= k. Binary rewards.
    Source: PKPO, arXiv 2505.15201, with its leave-one-out baseline.
    """
    n = groups.valid.sum(-1, keepdim=True).to(groups.reward.dtype)
    c = groups.hit.sum(-1, keepdim=True).to(groups.reward.dtype)
    up = k * _fail(n - 1, c - 1, k)
    down = k * (_fail(n - 1, c, k) - _fail(n - 1, c, k - 1))
    live = groups.valid & (n > k)
    return torch.where(live, torch.where(groups.hit, up, down), 0.0)


def _fail(n: Tensor, c: Tensor, k: int) -> Tensor:
    """C(n-c, k) / C(n, k): the chance that k of n rollouts drawn without replacement all miss."""
    value = torch.ones_like(n)
    for j in range(k):
        value = value * (n - c - j).clamp(min=0) / (n - j).clamp(min=1)
    return value
