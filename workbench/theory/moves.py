"""Every group that one rollout's move leads to, and what strategies make of each.

A picture in which a hand drags a rollout needs the answer before the hand is there: all of them are
worked out beforehand, so that the picture itself knows no strategy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from recast import STRATEGIES
from workbench.theory.group import DEPTH
from workbench.theory.microscope import groups_of, pushes_of

HIT = 1.0
"""Reward of a rollout that is moved to the target; one that is moved away from it gets none."""


def moved(group: pl.DataFrame, rollout: int, level: int) -> pl.DataFrame:
    """The group with one rollout, from 1, at another level, 0 to `DEPTH`."""
    here = pl.col("rollout") == rollout
    return group.with_columns(
        reward=pl.when(here).then(reward_at(level)).otherwise("reward"),
        matched=pl.when(here).then(level).otherwise("matched"),
    )


def reward_at(level: int) -> float:
    """Of a rollout that is moved there."""
    return HIT if level == DEPTH else 0.0


def moves(
    group: pl.DataFrame, names: Sequence[str], draw: int, probability: float
) -> dict[str, list[dict[str, Any]]]:
    """Per strategy, what it makes of the group itself and then of every single move of a rollout:
    entry 0 is the group, entry 1 + place * (DEPTH + 1) + level the one in which the rollout at that
    place (from 0) matches that many levels.

    An entry holds weights (one per slot), target (of a supervised target, None without one) and
    anchor (the slots that the ground truth took, from 1). A strategy that cannot work with the
    group is left out.
    """
    rewards, levels = group["reward"].to_list(), group["matched"].to_list()
    all_rewards, all_levels = [rewards], [levels]
    for place in range(group.height):
        for level in range(DEPTH + 1):
            all_rewards.append(_with(rewards, place, reward_at(level)))
            all_levels.append(_with(levels, place, level))
    groups = groups_of(all_rewards, all_levels, draw)
    found: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        try:
            pushed = pushes_of(STRATEGIES[name], groups, probability)
        except ValueError:
            continue
        targets = [None] * len(all_levels) if pushed.target is None else pushed.target.tolist()
        found[name] = [
            {
                "weights": [_short(weight) for weight in weights],
                "target": None if target is None else _short(target),
                "anchor": [slot for slot, there in enumerate(anchors, start=1) if there],
            }
            for weights, target, anchors in zip(
                pushed.weights.tolist(), targets, pushed.anchors.tolist(), strict=True
            )
        ]
    return found


def _with(values: Sequence[Any], place: int, value: Any) -> list[Any]:
    return [*values[:place], value, *values[place + 1 :]]


def _short(weight: float) -> float:
    return float(f"{weight:.5g}")
