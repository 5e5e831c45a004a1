"""Credit by level: one advantage per code of a semantic ID, `[..., B, G, L]`.

Conventions as in `recast.stages.credit`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recast.groups import RolloutGroups
from recast.stages.normalise import kept_reward, standardised


def sibling(groups: RolloutGroups, eps: float = 1e-4) -> Tensor:
    """Each code against its siblings, the other codes that were sampled behind the same prefix.

    A code's score is the mean reward of the rollouts that go through it; its advantage the score's
    z-score among the distinct siblings (ddof 0), and 0 where it has none. Near misses share the
    advantage of the hit on the codes that they share with it. Raises ValueError without `codes`.
    Source: Sibling-GRPO of V-STAR, arXiv 2602.10699, and its authors' code, which adds it to GRPO.
    """
    if groups.codes is None:
        raise ValueError("credit=sibling needs `codes` in the groups")
    reward = kept_reward(groups)
    together = groups.valid.unsqueeze(-1) & groups.valid.unsqueeze(-2)
    levels = []
    for code in groups.codes.unbind(-1):
        parent, together = together, together & (code.unsqueeze(-1) == code.unsqueeze(-2))
        through = together.sum(-1).clamp(min=1).to(reward.dtype)
        score = (together * reward.unsqueeze(-2)).sum(-1) / through
        levels.append(_among_siblings(score, parent, 1 / through, eps))
    return torch.stack(levels, -1).masked_fill(~groups.valid.unsqueeze(-1), 0.0)


def _among_siblings(score: Tensor, parent: Tensor, share: Tensor, eps: float) -> Tensor:
    """z-score of each rollout's node among the nodes of its parent; `[..., G]`.

    parent `[..., G, G]`: rollouts with the same prefix; share: one over the rollouts of a node, so
    that each node counts once.
    """
    weight = parent * share.unsqueeze(-2)
    nodes = weight.sum(-1).round().clamp(min=1)
    mean = (weight * score.unsqueeze(-2)).sum(-1) / nodes
    centred = score.unsqueeze(-2) - mean.unsqueeze(-1)
    largest = (centred.abs() * parent).amax(-1)
    size = (score.abs().unsqueeze(-2) * parent).amax(-1)
    unit = centred / torch.where(largest > 0, largest, 1.0).unsqueeze(-1)
    spread = ((weight * unit.square()).sum(-1) / nodes).sqrt() * largest
    # Scores alike within a relative 1e-6 count as equal, as rewards do.
    varied = largest > 1e-6 * size
    return torch.where(varied, (score - mean) / (spread + eps), 0.0)


def step_aligned(groups: RolloutGroups, eps: float = 1e-6) -> Tensor:
    """Per level: 1 while the codes up to it are the target's, normalised within the group as GRPO.

    Dense in groups without hits as well. The target may be any of several: `matched` counts the
    best. Raises ValueError without `matched` and `depth`.
    Source: step-aligned SAPO, arXiv 2605.17648, which compares code by code; here a code counts
    behind the target's prefix alone, where it means the same. Its normalisation is not verified.
    """
    if groups.matched is None or not groups.depth:
        raise ValueError("credit=step_aligned needs `matched` and `depth` in the groups")
    level = torch.arange(groups.depth, device=groups.matched.device).unsqueeze(-1)
    right = groups.hit.unsqueeze(-2) | (level < groups.matched.unsqueeze(-2))
    valid = groups.valid.unsqueeze(-2).expand(right.shape)
    return standardised(right.to(groups.reward.dtype), valid, eps).transpose(-1, -2)
