"""Repair: what happens to a group before it gets credit.

Each function maps `RolloutGroups` to `RolloutGroups`, shapes `[..., B, G]`, and is a row of
`REPAIRS`. A repaired slot has origin ANCHOR, reward 1 and score 1 unless said otherwise; the caller
writes the ground truth into it. `append` returns groups of width G + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups, first_best, first_by, tie_order
from recast.stage import WIDEST, Rounds, Stage
from recast.stages.replay import replay, replay_carry, replay_start
from recast.stages.resample import adaptive, dead_end, hinted, one_sided


def none(groups: RolloutGroups) -> RolloutGroups:
    """The groups exactly as sampled."""
    return groups


def anchor(groups: RolloutGroups) -> RolloutGroups:
    """All-zero groups get the ground truth in the slot of the least informative rollout.

    The slot is argmin u (ties: `tie_key`, then the lowest index). A group with a hit, without a
    known target, or without a valid rollout is left untouched. Source: arXiv 2604.22169, section 3.
    """
    all_zero = _targeted(groups).unsqueeze(-1) & ~groups.some_hit
    least = first_best(-groups.score, groups.valid, groups.tie_key)
    return _inject(groups, least & all_zero)


def anchor_share(groups: RolloutGroups, share: float = 0.5) -> RolloutGroups:
    """As `anchor`, but only a share of the all-zero groups is repaired, drawn at random.

    `tie_key` holds uniform draws: the fractional part of a group's sum is uniform, and a group
    below `share` is repaired. Raises ValueError without `tie_key`.
    """
    if groups.tie_key is None:
        raise ValueError("repair=anchor_share needs `tie_key` in the groups")
    drawn = groups.tie_key.sum(-1).remainder(1.0) < share
    return anchor(replace(groups, has_target=_targeted(groups) & drawn))


def overwrite_last(groups: RolloutGroups) -> RolloutGroups:
    """Every group gets the ground truth in its last valid slot, whatever was sampled there.

    Source: MiniOneRec `minionerec_trainer.py`, add_gt.
    """
    place = torch.arange(groups.reward.shape[-1], device=groups.reward.device)
    last = torch.where(groups.valid, place, -1).amax(-1, keepdim=True)
    return _inject(groups, (place == last) & _targeted(groups).unsqueeze(-1))


def append(groups: RolloutGroups) -> RolloutGroups:
    """Every group gets the ground truth as one more rollout; width G + 1.

    Its reward is 1, but the mean of the group's rewards as soon as one rollout reaches 1: the
    anchor disables itself. Source: ViSurf, arXiv 2510.10606.
    """
    # Padding carries reward 0, which is no hit and adds nothing.
    mean = groups.reward.sum(-1) / groups.valid.sum(-1)
    own = torch.where(groups.reward.amax(-1) >= 1.0, mean, 1.0)
    present = _targeted(groups) & groups.valid.any(-1)
    policy, anchored_ = int(Origin.POLICY), int(Origin.ANCHOR)
    origin = torch.where(present, anchored_, policy).to(groups.origin.dtype)
    extra: dict[str, Tensor | None] = {
        "reward": torch.where(present, own, 0.0),
        "score": present,
        "valid": present,
        "origin": origin,
        # The anchor loses every tie: it comes last, as its index says.
        "tie_key": None
        if groups.tie_key is None
        else torch.full_like(groups.tie_key[..., 0], torch.finfo(groups.tie_key.dtype).max / 2),
        "length": None if groups.length is None else groups.length.amax(-1),
        "entropy": None if groups.entropy is None else torch.zeros_like(groups.entropy[..., 0, :]),
        "beam_rank": None
        if groups.beam_rank is None
        else torch.full_like(groups.beam_rank[..., 0], groups.reward.shape[-1]),
        "matched": None if groups.matched is None else groups.matched.amax(-1),
        "item": None if groups.item is None else torch.full_like(groups.item[..., 0], -1),
        "hinted": None if groups.hinted is None else torch.zeros_like(groups.hinted[..., 0]),
        "logp": None if groups.logp is None else torch.zeros_like(groups.logp[..., 0, :]),
        "codes": None if groups.codes is None else torch.full_like(groups.codes[..., 0, :], -1),
    }
    axis = groups.reward.ndim - 1
    wider: dict[str, Any] = {
        name: torch.cat([getattr(groups, name), column.unsqueeze(axis)], dim=axis)
        for name, column in extra.items()
        if column is not None
    }
    return replace(groups, **wider, binary=False)


def drop_constant(groups: RolloutGroups) -> RolloutGroups:
    """Groups whose rewards are constant are dropped: none of their rollouts stays valid.

    The caller samples other prompts in their place. Source: DAPO dynamic sampling,
    arXiv 2503.14476.
    """
    valid = groups.valid
    high = groups.reward.masked_fill(~valid, -torch.inf).amax(-1, keepdim=True)
    low = groups.reward.masked_fill(~valid, torch.inf).amin(-1, keepdim=True)
    varied = high - low > 1e-6 * torch.maximum(high, -low)
    return replace(groups, valid=valid & varied)


def constant_outcome(groups: RolloutGroups) -> Tensor:
    """Groups that hold no hit or no miss: others are rolled out in their place; bool `[..., B]`."""
    return ~(groups.hit.any(-1) & groups.miss.any(-1))


def keep_distinct(groups: RolloutGroups, factor: float = 1.5) -> RolloutGroups:
    """Of W = factor x G sampled rollouts G stay: hits first, then one of each missed item, then
    second copies, and so on.

    Among those the item that was sampled most often comes first, then the one that comes first by
    `tie_key`, or by index. Raises ValueError without `item`.
    Source: MiniOneRec `minionerec_trainer.py`, dynamic sampling (`select_completion`).
    """
    item = groups.item
    if item is None:
        raise ValueError("repair=keep_distinct needs `item` in the groups")
    order, width = tie_order(groups), groups.reward.shape[-1]
    same = (item.unsqueeze(-1) == item.unsqueeze(-2)) & groups.miss.unsqueeze(-2)
    copy = (same & (order.unsqueeze(-2) < order.unsqueeze(-1))).sum(-1)
    rare = width - same.sum(-1)
    begins = order.unsqueeze(-2).masked_fill(~same, width).amin(-1)
    priority = torch.where(groups.hit, 0, 1 + copy * (width + 1) + rare)
    count = (groups.valid.sum(-1, keepdim=True) / factor).round().clamp(min=1)
    return replace(
        groups,
        valid=first_by(priority, groups.valid, torch.where(groups.hit, order, begins), count),
    )


def _targeted(groups: RolloutGroups) -> Tensor:
    if groups.has_target is None:
        return torch.ones_like(groups.valid[..., 0])
    return groups.has_target


def _inject(groups: RolloutGroups, slot: Tensor) -> RolloutGroups:
    """The ground truth in the marked slots; slot bool `[..., B, G]`."""
    matched, item = groups.matched, groups.item
    return replace(
        groups,
        reward=groups.reward.masked_fill(slot, 1.0),
        score=groups.score.masked_fill(slot, 1.0),
        origin=groups.origin.masked_fill(slot, int(Origin.ANCHOR)),
        matched=None if matched is None else matched.masked_fill(slot, _every(matched.dtype)),
        item=None if item is None else item.masked_fill(slot, -1),
    )


def _every(dtype: torch.dtype) -> int:
    """More matched codes than any ID has, in integers of any size."""
    return min(torch.iinfo(torch.int16).max, torch.iinfo(dtype).max)


REPAIRS: Mapping[str, Stage] = {
    "none": Stage(none, idle=True),
    "anchor": Stage(anchor, needs={"target", "score"}, injects="miss"),
    "anchor_share": Stage(
        anchor_share,
        needs={"target", "score", "tie_key"},
        bounds={"share": (0, 1)},
        injects="miss",
        drawn=True,
    ),
    "overwrite_last": Stage(overwrite_last, needs={"target"}, injects="slot"),
    "append": Stage(append, needs={"target"}, width=lambda group: group + 1, injects="extra"),
    "drop_constant": Stage(drop_constant, rounds=Rounds(constant_outcome), drops=True),
    "keep_distinct": Stage(
        keep_distinct,
        needs={"item"},
        bounds={"factor": (1, 64)},
        samples=lambda group, factor: round(group * factor),
        drops=True,
    ),
    "hinted": Stage(
        hinted,
        needs={"target"},
        bounds={"codes": (1, 64)},
        rounds=Rounds(dead_end, "hint", most=2),
    ),
    "adaptive": Stage(
        adaptive,
        bounds={"keep": (2, WIDEST)},
        rounds=Rounds(one_sided, "more", most=4),
        width=lambda group, keep: min(keep, 4 * group),
        drops=True,
    ),
    "replay": Stage(
        replay,
        needs={"item", "prompt", "logp"},
        start=replay_start,
        carry=replay_carry,
        injects="miss",
    ),
}


def anchored(groups: RolloutGroups) -> Tensor:
    """Groups that carry an anchor; bool `[..., B]`."""
    return (groups.origin == int(Origin.ANCHOR)).any(-1)
