"""Selection: which rollouts of a group take part in credit and reach the actor.

Each function maps `RolloutGroups` to a bool mask `[..., B, G]` and is a key of `SELECTIONS`.
Ties go to the smallest `tie_key`, or to the lowest index without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from recast.groups import RolloutGroups, first_best


def everything(groups: RolloutGroups) -> Tensor:
    """Every valid rollout."""
    return groups.valid


def boundary_pair(groups: RolloutGroups) -> Tensor:
    """The strongest positive (largest reward) and the hardest negative (largest score).

    A group without a positive or without a negative selects nobody.
    Source: arXiv 2604.22169, section 3.
    """
    hardest = first_best(groups.score, groups.miss, groups.tie_key)
    return _both_or_nobody(_strongest(groups), hardest)


def random_pair(groups: RolloutGroups) -> Tensor:
    """The strongest positive and a uniformly random miss: the one with the smallest `tie_key`.

    Needs `tie_key` filled with uniform draws; `require_inputs` says so before training.
    """
    anyone = first_best(groups.valid.to(groups.reward.dtype), groups.miss, groups.tie_key)
    return _both_or_nobody(_strongest(groups), anyone)


def _strongest(groups: RolloutGroups) -> Tensor:
    return first_best(groups.reward, groups.hit, groups.tie_key)


def _both_or_nobody(positive: Tensor, negative: Tensor) -> Tensor:
    learnable = positive.any(-1, keepdim=True) & negative.any(-1, keepdim=True)
    return (positive | negative) & learnable


Selection = Callable[[RolloutGroups], Tensor]

SELECTIONS: Mapping[str, Selection] = MappingProxyType(
    {"all": everything, "pair": boundary_pair, "random_pair": random_pair}
)
