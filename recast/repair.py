"""Repair: what happens to a group before it gets credit.

Each function maps `RolloutGroups` to `RolloutGroups`, shapes `[..., B, G]`, and is a key of
`REPAIRS`. A repaired slot has reward 1, score 1 and origin ANCHOR; the caller writes the ground
truth into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from torch import Tensor

from recast.groups import Origin, RolloutGroups, first_best


def none(groups: RolloutGroups) -> RolloutGroups:
    """The groups exactly as sampled."""
    return groups


def anchor(groups: RolloutGroups) -> RolloutGroups:
    """All-zero groups get the ground truth in the slot of the least informative rollout.

    The slot is argmin u (ties: `tie_key`, then the lowest index). A group with a hit, without a
    known target, or without a valid rollout is left untouched. Source: arXiv 2604.22169, section 3.
    """
    return _inject(groups, _needs_anchor(groups).unsqueeze(-1) & _least_informative(groups))


def _needs_anchor(groups: RolloutGroups) -> Tensor:
    all_zero = ~groups.hit.any(-1)
    return all_zero if groups.has_target is None else all_zero & groups.has_target


def _least_informative(groups: RolloutGroups) -> Tensor:
    return first_best(-groups.score, groups.valid, groups.tie_key)


def _inject(groups: RolloutGroups, slot: Tensor) -> RolloutGroups:
    return replace(
        groups,
        reward=groups.reward.masked_fill(slot, 1.0),
        score=groups.score.masked_fill(slot, 1.0),
        origin=groups.origin.masked_fill(slot, int(Origin.ANCHOR)),
    )


Repair = Callable[[RolloutGroups], RolloutGroups]

REPAIRS: Mapping[str, Repair] = MappingProxyType({"none": none, "anchor": anchor})


def anchored(groups: RolloutGroups) -> Tensor:
    """Groups that carry an anchor; bool `[..., B]`."""
    return (groups.origin == int(Origin.ANCHOR)).any(-1)
