"""Repairs that have a prompt sampled again: behind a hint, or until both kinds are there.

Shapes and conventions as in `recast.stages.repair`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from recast.groups import RolloutGroups, first_by, tie_order
from recast.stages.normalise import standardised


def dead_end(groups: RolloutGroups, codes: int = 1) -> Tensor:
    """Leading codes of the target to give, `codes` where no rollout hit; int64 `[..., B]`."""
    return torch.where(groups.hit.any(-1), 0, codes)


def hinted(groups: RolloutGroups, codes: int = 1) -> RolloutGroups:
    """Groups as they are: those without hits were rolled out again behind the target's first codes.

    Given codes get no credit; supervised=hint learns them. At most all codes but the last are of
    use: where all are given, nothing is sampled. Source: hints of Scaf-GRPO, arXiv 2510.19807, on
    the codes of a semantic ID.
    """
    del codes
    return groups


def one_sided(groups: RolloutGroups) -> Tensor:
    """Groups without a hit or without a miss, which are sampled further; bool `[..., B]`."""
    return ~(groups.hit.any(-1) & groups.miss.any(-1))


def adaptive(groups: RolloutGroups, keep: int = 8, eps: float = 1e-6) -> RolloutGroups:
    """Of a pool sampled in rounds `keep` rollouts stay, half of them hits if there are so many.

    Their reward becomes (r - m) / (s + eps) of the whole pool, for credit=raw; in a pool of one
    kind it is 0. Ties go to the smallest `tie_key`, then to the lowest index.
    Source: Reinforce-Ada, arXiv 2510.04996; `adaptive_sampling.py` of its authors.
    """
    order = tie_order(groups)
    hits, misses = (x.sum(-1, keepdim=True) for x in (groups.hit, groups.miss))
    up = torch.minimum(hits, torch.maximum((keep - misses).clamp(min=0), 0 * misses + keep // 2))
    same = torch.zeros_like(order)
    kept = first_by(same, groups.hit, order, up) | first_by(same, groups.miss, order, keep - up)
    value = standardised(groups.reward, groups.valid, eps)
    return replace(groups, reward=value * kept, valid=kept, hit_threshold=0.0, binary=False)
