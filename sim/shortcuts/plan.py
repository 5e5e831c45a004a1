"""Plans: which shortcut serves a strategy, and the table of what each outcome of a group asks.

Decided from what the strategy declares and from probing it, never from its name:

- `pair`: only the boundary pair learns;
- `hits`: every hit of a group, every miss and every anchor gets what the number of hits dictates;
- `levels`: credit may look at where each miss leaves the target's path as well;
- `target`: no rollouts at all;
- none: the general path of `sim.general.step` trains the strategy.

What the tables mean to the kernel stands in `sim.kernel.draw`. G rollouts, L levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch

from recast.groups import RolloutGroups
from recast.loss import LossSettings
from recast.signal import build_signal
from recast.strategy import Strategy
from sim.shortcuts.hits import HitTable, hit_table
from sim.shortcuts.levels import depends_on_levels_alone

KINDS: Mapping[str, int] = MappingProxyType({"target": 0, "hits": 1, "pair": 2, "levels": 3})
"""As `sim.kernel.draw` numbers them."""
OUTCOMES = frozenset({"target", "tie_key", "matched", "score"})
"""Inputs that follow from where each rollout leaves the target's path."""


@dataclass(frozen=True)
class Plan:
    """name: one of `KINDS`; table float64 `[outcomes, 7]`; displaces: an anchor takes the slot of a
    miss; width: slots of a group; kl_weight: of the KL term, 0 where no row carries one."""

    name: str
    table: np.ndarray
    displaces: bool
    width: int
    kl_weight: float


def plan_for(strategy: Strategy, group: int, depth: int, loss: LossSettings) -> Plan | None:
    """The cheapest shortcut that is exact for the strategy, or None."""
    repair = strategy.stage("repair").stage
    on_policy = strategy.stage("anchor_ratio").stage.idle and not strategy.bends
    if strategy.has_gate or strategy.coupling == "state" or not on_policy:
        return None
    once = strategy.rounds is None and not strategy.oversamples
    if repair.drops or not once or not strategy.needs <= OUTCOMES:
        return None
    kl = loss.kl_weight if strategy.has_credit else 0.0
    if not strategy.needs_rollouts:
        return Plan("target", np.zeros((1, 7)), False, group, 0.0)
    always = strategy.anchors and not strategy.draws_repair
    simple = repair.idle or (repair.injects == "miss" and always)
    if strategy.coupling == "group":
        pairs = strategy.stage("select").stage.boundary
        if simple and pairs and "rollouts" not in strategy.stage("supervised").stage.needs:
            return Plan("pair", pair_table(strategy, group, depth), False, group, kl)
        if simple or (repair.injects == "extra" and always):
            table = hit_table(strategy, group, depth)
            if table is not None:
                rows = outcome_table(table, group, carried=kl > 0)
                width = group + int(not table.displaces)
                return Plan("hits", rows, table.displaces, width, kl)
    if depends_on_levels_alone(strategy, group, depth):
        return Plan("levels", np.zeros((1, 7)), False, group, kl)
    return None


def outcome_table(table: HitTable, group: int, *, carried: bool) -> np.ndarray:
    """What each number of hits 0..G asks; carried: every row that is sent carries a KL term, and is
    walked for it."""
    advantage = table.advantage.numpy() * table.sent.numpy()
    sent, anchors = table.sent.numpy().astype(np.int64), table.anchors.numpy().astype(np.int64)
    worth = sent * (advantage != 0)
    hits = np.arange(group + 1)
    others = group - hits - anchors * int(table.displaces)
    sizes = np.stack([hits, others, anchors], 1)
    ends = [0, 2]
    return np.stack(
        [
            (sizes * advantage)[:, ends].sum(1),
            advantage[:, 1],
            (sent if carried else worth)[:, 1],
            (sizes * sent)[:, ends].sum(1),
            (sizes * sent).sum(1),
            (sizes * worth).sum(1),
            anchors,
        ],
        1,
    ).astype(np.float64)


def pair_weights(strategy: Strategy) -> tuple[float, float, int, int]:
    """Credit of the pair's hit and of its miss, how many of the two have any, and how many reach
    the actor."""
    both = RolloutGroups.of(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    positive, negative = build_signal(replace(strategy, repair="none"), both).advantage[0].tolist()
    fed = int(positive != 0) + int(negative != 0)
    return positive, negative, fed, fed if strategy.update == "active" else 2


def pair_table(strategy: Strategy, group: int, depth: int) -> np.ndarray:
    """What each cell asks: no hit or some, and where the hardest miss leaves, if there is one."""
    positive, negative, fed, sent = pair_weights(strategy)
    anchors = strategy.anchors
    found = []
    for hit in (False, True):
        for misses in range(depth + 1):
            # At G = 1 the anchor takes the only slot, and no miss is left.
            pair = int((hit or (anchors and group > 1)) and misses > 0)
            carried = pair * int(sent == 2 or positive != 0)
            repaired = int(anchors and not hit)
            found.append(
                (positive * pair, negative, pair, carried, sent * pair, fed * pair, repaired)
            )
    return np.array(found, dtype=np.float64)


def divisor(strategy: Strategy, batch: int, width: int, depth: int) -> tuple[float, ...]:
    """What the summed loss is divided by: a constant, and what each row that reaches the actor,
    each with credit and each group with credit adds. Equals `recast.loss.denominator` on B groups
    of `width` valid rollouts, once every count is at least 1."""
    rollouts = float(batch * width)
    return {
        "rollouts": (rollouts, 0.0, 0.0, 0.0),
        "prompts": (float(batch), 0.0, 0.0, 0.0),
        "constant": (rollouts * depth, 0.0, 0.0, 0.0),
        "tokens": (0.0, float(depth), 0.0, 0.0),
        "active": (0.0, 0.0, 1.0, 0.0),
        "live_groups": (0.0, 0.0, 0.0, float(width)),
    }[strategy.denominator]
