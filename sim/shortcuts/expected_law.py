"""Noise-free training: the expected update over everything that a group may draw.

With one target per prompt and on-policy samples at T = 1, a miss that leaves the target's path at
level m has the expected gradient

    sum over l < m of grad log pi_l  -  pi_m / (1 - pi_m) grad log pi_m,

with pi_l the probability of the target's code at level l: below the point of departure the score
of a sample averages to zero. The whole expected update is therefore a weight on each code of the
target's path, known from the law of the number of hits and of where misses leave. Which prompts
share a step is still drawn, and the same as in sampled training.

Shapes: R runs, B prompts, P = R B flat prompts, G rollouts, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from recast.stages.supervised import slope_of
from recast.strategy import Strategy
from recast.theory.learnability import binomial_pmf
from sim.settings import Training
from sim.shortcuts.hits import HitTable, hit_table
from sim.shortcuts.plan import pair_weights, plan_for

FIXED = ("rollouts", "prompts", "constant")
"""Denominators that do not depend on what a batch happens to hold."""


def why_not_expected(strategy: Strategy, how: Training, depth: int) -> str | None:
    """Why this strategy has no expected update here, in one line; None where it has one."""
    if how.rollouts != "sample" or how.mini_batch or how.kl_weight or how.temperature != 1.0:
        return (
            "expected updates need rollouts = sample at temperature 1, kl_weight 0 and "
            "mini_batch 0: several steps per rollout phase and a KL term are no function of hits"
        )
    try:
        strategy.check_group(how.group)
    except ValueError as problem:
        return str(problem)
    if "rollouts" in strategy.stage("supervised").stage.needs:
        return "its supervised term looks at the rollouts, and not through their credit"
    plan = plan_for(strategy, how.group, depth, how.loss)
    closed = slope_of(strategy.stage("supervised"), 0.0, depth) is not None
    if plan is None or plan.name == "levels" or not closed:
        return "its credit depends on more than the hits of a group and its boundary pair"
    if strategy.has_credit and strategy.denominator not in FIXED:
        return (
            f"its loss is divided by what the batch happens to hold ({strategy.denominator}); "
            f"expected one of {', '.join(FIXED)}"
        )
    return None


@dataclass(frozen=True)
class Law:
    """Expectations per prompt, float64. hit `[P]`: summed credit of hits and anchors; miss
    `[P, L]`: summed credit of misses that leave at each level; rows, active, repaired, silent,
    live `[P]`: rows that reach the actor, those with credit, groups with an anchor, groups without
    any row, and with any credit."""

    hit: np.ndarray
    miss: np.ndarray
    rows: np.ndarray
    active: np.ndarray
    repaired: np.ndarray
    silent: np.ndarray
    live: np.ndarray


def law_of(strategy: Strategy, reach: np.ndarray, leave: np.ndarray, group: int, depth: int) -> Law:
    """Expectations of one rollout phase under the law of hits and of leaving levels."""
    if not strategy.needs_rollouts:
        none = np.zeros(len(leave))
        return Law(none, np.zeros_like(leave), none, none, none, none + 1, none)
    if strategy.stage("select").stage.boundary:
        return _pair(strategy, reach[:, -1], leave, group)
    table = hit_table(strategy, group, depth)
    assert table is not None
    return _hits(table, reach[:, -1], leave, group)


def _hits(table: HitTable, hit: np.ndarray, leave: np.ndarray, group: int) -> Law:
    some = leave.sum(1, keepdims=True)
    p = np.where(some[:, 0] > 0, np.minimum(hit, 1.0), 1.0)
    chance = binomial_pmf(torch.from_numpy(p), group).numpy()
    k, anchors = np.arange(group + 1), table.anchors.numpy()
    sent, credit = table.sent.numpy(), (table.advantage * table.sent).numpy()
    gives_way = anchors & (group > k) if table.displaces else np.zeros_like(anchors)
    sizes = np.stack([k, group - k - gives_way, anchors], -1)
    leaves = np.divide(leave, some, out=np.zeros_like(leave), where=some > 0)
    miss = (chance * (group - k) * credit[:, 1]).sum(1)[:, None] * leaves
    # An anchor takes the slot of one of the shallowest misses.
    tail = np.cumsum(leaves[:, ::-1], axis=1)[:, ::-1]
    beyond = np.concatenate([tail[:, 1:], np.zeros_like(tail[:, :1])], axis=1)
    for hits in np.flatnonzero(gives_way):
        shallowest = tail ** (group - hits) - beyond ** (group - hits)
        miss -= chance[:, hits, None] * credit[hits, 1] * shallowest
    rows, active = (sizes * sent).sum(1), (sizes * (sent & (credit != 0))).sum(1)
    return Law(
        hit=chance @ (sizes * credit)[:, [0, 2]].sum(1),
        miss=miss,
        rows=chance @ rows,
        active=chance @ active,
        repaired=chance @ anchors,
        silent=chance @ (rows == 0),
        live=chance @ (active > 0),
    )


def _pair(strategy: Strategy, hit: np.ndarray, leave: np.ndarray, group: int) -> Law:
    law = pair_law(hit, leave, group)
    law /= law.sum((1, 2), keepdims=True)
    positive, negative, fed, sent = pair_weights(strategy)
    anchors = strategy.anchors
    hardest = law[:, 1, 1:] + law[:, 0, 1:] * (anchors and group > 1)
    usable = hardest.sum(1)
    return Law(
        hit=positive * usable,
        miss=negative * hardest,
        rows=sent * usable,
        active=fed * usable,
        repaired=law[:, 0].sum(1) * anchors,
        silent=1 - usable * (sent > 0),
        live=usable * (fed > 0),
    )


def pair_law(hit: np.ndarray, leave: np.ndarray, group: int) -> np.ndarray:
    """Joint law of (hit or not, level at which the hardest miss leaves); `[P, 2, L + 1]`, from the
    chance of one hit `[P]` and of leaving at each level `[P, L]`.

    Index 0 / 1 of the second axis: no hit / some hit. The last axis counts levels from the
    shallowest, index 0: no miss at all. As `sim.kernel.draw.pair_law`.
    """
    prompts, levels = leave.shape
    at_most = np.zeros((prompts, 2, levels + 1))
    np.cumsum(leave, axis=1, out=at_most[:, 0, 1:])
    np.add(at_most[:, 0], hit[:, None], out=at_most[:, 1])
    law = (at_most / at_most[:, 1:, -1:]) ** group
    law[:, 1] -= law[:, 0]
    law[:, :, 1:] -= law[:, :, :-1].copy()
    return np.maximum(law, 0.0)


def path_weights(reach: np.ndarray, leave: np.ndarray, law: Law) -> np.ndarray:
    """Expected credit of each code of the target, hits and misses together; `[P, L]`."""
    odds = np.divide(reach[:, 1:], leave, out=np.zeros_like(leave), where=leave > 0)
    later = np.cumsum(law.miss[:, ::-1], axis=1)[:, ::-1] - law.miss
    weight: np.ndarray = law.hit[:, None] + later - law.miss * odds
    return weight
