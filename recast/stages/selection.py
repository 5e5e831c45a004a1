"""Selection: which rollouts of a group take part in credit and reach the actor.

Each function maps `RolloutGroups` to a bool mask `[..., B, G]` and is a row of `SELECTIONS`.
Ties go to the smallest `tie_key`, or to the lowest index without one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recast.groups import RolloutGroups, first_best, first_by, tie_order
from recast.stage import WIDEST, Stage


def everything(groups: RolloutGroups) -> Tensor:
    """Every valid rollout."""
    return groups.valid


def boundary_pair(groups: RolloutGroups) -> Tensor:
    """The strongest positive (largest reward) and the hardest negative (largest score).

    A group without a positive or without a negative selects nobody.
    Source: arXiv 2604.22169, section 3.
    """
    return _pair(groups, groups.score)


def random_pair(groups: RolloutGroups) -> Tensor:
    """The strongest positive and a uniformly random miss: the one with the smallest `tie_key`.

    Needs `tie_key` filled with uniform draws; `require_inputs` says so before training.
    """
    return _pair(groups, torch.zeros_like(groups.score))


def near_misses(groups: RolloutGroups, k: int = 2) -> Tensor:
    """The strongest positive and the k misses with the largest score; nobody without both kinds.

    Source: CARE, arXiv 2512.19554 (anchor on the best own rollout, nearest failures against it).
    """
    return _both_or_nobody(_strongest(groups), _hardest(groups, k))


def positives(groups: RolloutGroups) -> Tensor:
    """Hits only. Source: RLVR-Decomposed, arXiv 2506.01347, PSR."""
    return groups.hit


def negatives(groups: RolloutGroups, m: int = 0) -> Tensor:
    """Misses only: m of them drawn at random (smallest `tie_key`), or all of them for m = 0.

    Source: RLVR-Decomposed, arXiv 2506.01347, NSR (all); S-DPO, arXiv 2406.09215 (m).
    """
    if not m:
        return groups.miss
    return _first(groups.miss, tie_order(groups), m)


def pods(groups: RolloutGroups, m: int = 2) -> Tensor:
    """The m rollouts whose rewards vary most: the best i and the worst m - i, for the best i.

    Everyone in a group of m or fewer. When several i tie, the m best win if they are among them,
    else the smallest i. Source: PODS, arXiv 2504.13818, and its authors' code.
    """
    reward, valid = groups.reward, groups.valid
    if reward.shape[-1] <= m:
        return valid
    count = valid.sum(-1, keepdim=True)
    # Ascending by reward; among equal rewards those that a tie favours stand last.
    order = tie_order(groups).argsort(-1, descending=True)
    ranked = reward.masked_fill(~valid, torch.inf).gather(-1, order).argsort(stable=True)
    order = order.gather(-1, ranked)
    present = valid.gather(-1, order)
    value = reward.gather(-1, order).masked_fill(~present, 0.0)
    # Centred, in units of the largest deviation: squares of large or tiny rewards would be lost.
    value = (value - value.sum(-1, keepdim=True) / count).masked_fill(~present, 0.0)
    value = value / value.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(value.dtype).tiny)
    top = torch.arange(m + 1, device=reward.device)
    moments = []
    for power in (value, value.square()):
        sums = torch.nn.functional.pad(power.cumsum(-1), (1, 0))
        lowest = sums[..., : m + 1].flip(-1)
        below = sums.gather(-1, (count - top).clamp(min=0))
        moments.append(lowest + sums.gather(-1, count) - below)
    spread = m * moments[1] - moments[0].square()
    best = spread.amax(-1, keepdim=True)
    # In units of the largest deviation a spread is of the order of m^2, and rounding far below it.
    alike = spread >= best - 1e-6 * m * m
    fewest = torch.where(alike, top, m).amin(-1, keepdim=True)
    chosen = torch.where(alike[..., -1:], m, fewest)
    place = torch.arange(reward.shape[-1], device=reward.device)
    kept = (place < m - chosen) | (place >= count - chosen)
    return valid.scatter(-1, order, kept) & valid


def _pair(groups: RolloutGroups, score: Tensor) -> Tensor:
    """The strongest positive and the miss with the largest score; both or nobody."""
    hardest = first_best(score, groups.miss, groups.tie_key)
    return _both_or_nobody(_strongest(groups), hardest)


def _strongest(groups: RolloutGroups) -> Tensor:
    return first_best(groups.reward, groups.hit, groups.tie_key)


def _hardest(groups: RolloutGroups, k: int) -> Tensor:
    order = tie_order(groups)
    by_score = groups.score.gather(-1, order.argsort(-1)).argsort(descending=True, stable=True)
    place = order.argsort(-1).gather(-1, by_score).argsort(-1)
    return _first(groups.miss, place, k)


def _first(among: Tensor, order: Tensor, count: int) -> Tensor:
    """The first `count` marked rollouts in the given order; bool `[..., G]`."""
    return first_by(torch.zeros_like(order), among, order, torch.full_like(order[..., :1], count))


def _both_or_nobody(positive: Tensor, negative: Tensor) -> Tensor:
    learnable = positive.any(-1, keepdim=True) & negative.any(-1, keepdim=True)
    return (positive | negative) & learnable


SELECTIONS: Mapping[str, Stage] = {
    "all": Stage(everything, idle=True),
    "pair": Stage(boundary_pair, needs={"score"}, width=lambda group: min(2, group), boundary=True),
    "random_pair": Stage(random_pair, needs={"tie_key"}, width=lambda group: min(2, group)),
    "near_misses": Stage(near_misses, needs={"score"}, width=lambda group, k: min(1 + k, group)),
    "positives": Stage(positives),
    "negatives": Stage(negatives, width=lambda group, m: min(m or group, group)),
    "pods": Stage(
        pods, bounds={"m": (1, WIDEST)}, least_group=lambda m: m, width=lambda group, m: m
    ),
}
