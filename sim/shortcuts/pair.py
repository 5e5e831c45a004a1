"""The lazy pair: when only the boundary pair learns, the cost of a group does not grow with G.

Whether a group has a hit, and where its hardest miss leaves the target's path, is all that the pair
needs of it; their joint law is closed. At most one miss per prompt is walked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from recast.groups import RolloutGroups
from recast.loss import LossSettings
from recast.strategy import Strategy, build_signal
from sim.shortcuts.plan import Drawn, Plan, kl_terms, share_of
from sim.shortcuts.walk import Demand, Generators, Path


def pair_law(path: Path, group: int) -> np.ndarray:
    """Joint law of (hit or not, level at which the hardest miss leaves); `[P, 2, L + 1]`.

    Index 0 / 1 of the second axis: no hit / some hit. The last axis counts levels from the
    shallowest, index 0: no miss at all. Source: all G rollouts are hits or leave at level m or
    before with probability (p + sum of leave up to m)^G, and the same without p.
    """
    (prompts, levels), p = path.leave.shape, path.reach[:, -1]
    at_most = np.zeros((prompts, 2, levels + 1))
    np.cumsum(path.leave, axis=1, out=at_most[:, 0, 1:])
    np.add(at_most[:, 0], p[:, None], out=at_most[:, 1])
    with np.errstate(divide="ignore"):
        power = np.log(at_most)
    power -= power[:, 1:, -1:]
    power *= group
    law = np.exp(power, out=power)
    law[:, 1] -= law[:, 0]
    law[:, :, 1:] -= law[:, :, :-1].copy()
    return np.maximum(law, 0.0, out=law)


def pair_weights(strategy: Strategy) -> tuple[float, float, int, int]:
    """Credit of the pair's hit and of its miss, how many of the two have any, and how many reach
    the actor."""
    both = RolloutGroups.of(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    positive, negative = build_signal(replace(strategy, repair="none"), both).advantage[0].tolist()
    fed = int(positive != 0) + int(negative != 0)
    return positive, negative, fed, fed if strategy.update == "active" else 2


def pair_plan(strategy: Strategy, group: int, loss: LossSettings) -> Plan:
    """For a strategy that selects the boundary pair, with or without an anchor before it."""
    positive, negative, fed, sent = pair_weights(strategy)
    anchors = strategy.anchors

    def draw(path: Path, rngs: Generators, prompts: int) -> Drawn:
        depth = path.leave.shape[1]
        law = pair_law(path, group).reshape(-1, 2 * (depth + 1))
        point = np.concatenate([rng.random(prompts) for rng in rngs])[:, None] * law.sum(
            1, keepdims=True
        )
        cdf = np.cumsum(law, axis=1)
        cell = np.count_nonzero(point >= cdf[:, :-1], axis=1)
        impossible = np.flatnonzero(law[np.arange(len(cell)), cell] <= 0)
        # Rounding must not choose what cannot happen.
        cell[impossible] = law[impossible].argmax(1)
        hit, hardest = cell > depth, cell % (depth + 1) - 1
        repaired = ~hit if anchors else np.zeros_like(hit)
        # At G = 1 the anchor takes the only slot, and no miss is left.
        usable = (hit | (repaired & (group > 1))) & (hardest >= 0)
        count = np.zeros((len(cell), depth), dtype=np.int64)
        count[usable, hardest[usable]] = 1
        pairs = torch.from_numpy(usable.astype(np.int64))
        rows, active = sent * pairs, fed * pairs
        share = share_of(strategy, rows, active, prompts, group, depth)
        like = path.logp
        demand = Demand(
            (-positive * share * pairs).to(like.dtype),
            count,
            (-negative * share).unsqueeze(-1).expand_as(like).to(like.dtype),
            *kl_terms(loss, share, pairs * int(sent == 2 or positive != 0), like),
        )
        return Drawn(
            demand,
            rows,
            active,
            torch.from_numpy(repaired),
            torch.from_numpy(hit.astype(np.int64)),
        )

    return Plan("pair", draw)
