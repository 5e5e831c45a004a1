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
from torch import Tensor

from recast.strategy import Strategy
from recast.theory.learnability import binomial_pmf
from sim.policies.nodes import NodePolicy, Params
from sim.policies.protocol import Policy
from sim.seeds import minibatch, stream
from sim.shortcuts.choose import Update, account, plan_for
from sim.shortcuts.hits import HitTable, hit_table
from sim.shortcuts.pair import pair_law, pair_weights
from sim.shortcuts.plan import Drawn, share_of, supervise
from sim.shortcuts.walk import Demand, Path, descend, score_path, set_broken_aside, spoil
from sim.training.step import Training
from sim.worlds.world import World

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
    plan = plan_for(strategy, how.group, depth, how.loss, torch.float64)
    if plan is None or plan.name == "levels":
        return "its credit depends on more than the hits of a group and its boundary pair"
    if strategy.has_credit and strategy.denominator not in FIXED:
        return (
            f"its loss is divided by what the batch happens to hold ({strategy.denominator}); "
            f"expected one of {', '.join(FIXED)}"
        )
    return None


@dataclass(frozen=True)
class _Law:
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


class ExpectedPath:
    """Steps of R runs of one strategy without sampling noise; as `choose.FastPath`."""

    def __init__(
        self,
        policy: Policy,
        world: World,
        strategy: Strategy,
        reference: Params,
        seeds: tuple[int, ...],
        how: Training,
    ) -> None:
        """Raises ValueError, one line, where there is no expected update."""
        if not isinstance(policy, NodePolicy):
            raise ValueError(
                f"train.updates: no expected update: a {type(policy).__name__} policy has no "
                "hand-written node passes"
            )
        reason = why_not_expected(strategy, how, world.catalogue.depth)
        if world.train.targets is not None:
            reason = "prompts with several targets have no single path to weigh"
        if reason:
            raise ValueError(f"train.updates: no expected update: {reason}")
        self._policy, self._world, self._strategy = policy, world, strategy
        self._seeds, self._how = seeds, how
        self._context = world.train.context.to(next(iter(reference.values())).dtype)
        # Nothing is drawn from these; walking asks for them.
        self._rngs = tuple(stream(seed, "lazy rollouts") for seed in seeds)

    @torch.no_grad()
    def step(self, params: Params, step: int) -> Update:
        """The expected gradient of one step's loss, and what the step costs on average."""
        how, policy, strategy = self._how, self._policy, self._strategy
        catalogue, runs = self._world.catalogue, len(self._seeds)
        index = minibatch(self._seeds, "prompts", step, how.batch, len(self._world.train))
        context, target = self._context[index], self._world.train.target[index]
        encoded = policy.encode_rows(params, context)
        path = score_path(policy, params, catalogue, encoded, target, 1.0)
        broken = set_broken_aside(path)
        law = law_of(strategy, path, how.group, catalogue.depth)
        demand = Demand(
            self._weights(path, law),
            np.zeros(path.leave.shape, dtype=np.int64),
            torch.zeros_like(path.logp),
        )
        none = torch.zeros(len(path.leave), dtype=torch.int64)
        if strategy.learns_from_target:
            progress = step / max(1, how.steps - 1)
            demand = demand.taught(supervise(strategy, path, none, how.group, how.batch, progress))
        grads, _ = descend(
            policy, params, catalogue, context, encoded, path, demand, self._rngs, 1.0
        )
        spoil(grads, broken)
        rows, active, repaired, live, silent = map(
            torch.from_numpy, (law.rows, law.active, law.repaired, law.live, law.silent)
        )
        spent, counted = account(strategy, how, runs, rows, active, repaired, live, silent)
        drawn = Drawn(demand, rows, active, repaired, none)
        return Update(grads, spent, counted, drawn, path, None)

    def _weights(self, path: Path, law: _Law) -> Tensor:
        """Derivative of the loss by the log-probability of each code of the target; `[P, L]`."""
        how, strategy, none = self._how, self._strategy, torch.zeros(len(path.leave))
        depth = path.leave.shape[1]
        width = strategy.stage("repair").width(how.group)
        share = share_of(strategy, none, none, how.batch, width, depth).numpy()[:, None]
        gone = path.leave > 0
        odds = np.divide(path.reach[:, 1:], path.leave, out=np.zeros_like(path.leave), where=gone)
        later = np.cumsum(law.miss[:, ::-1], axis=1)[:, ::-1] - law.miss
        weight = law.hit[:, None] + later - law.miss * odds
        return torch.from_numpy(-share * weight).to(path.logp.dtype)


def law_of(strategy: Strategy, path: Path, group: int, depth: int) -> _Law:
    """Expectations of one rollout phase under the law of hits and of leaving levels."""
    if not strategy.needs_rollouts:
        none = np.zeros(len(path.leave))
        return _Law(none, np.zeros_like(path.leave), none, none, none, none + 1, none)
    if strategy.stage("select").stage.boundary:
        return _pair(strategy, path, group)
    table = hit_table(strategy, group, depth)
    assert table is not None
    return _hits(table, path, group)


def _hits(table: HitTable, path: Path, group: int) -> _Law:
    some = path.leave.sum(1, keepdims=True)
    p = np.where(some[:, 0] > 0, np.minimum(path.reach[:, -1], 1.0), 1.0)
    chance = binomial_pmf(torch.from_numpy(p), group).numpy()
    k, anchors = np.arange(group + 1), table.anchors.numpy()
    sent, credit = table.sent.numpy(), (table.advantage * table.sent).numpy()
    gives_way = anchors & (group > k) if table.displaces else np.zeros_like(anchors)
    sizes = np.stack([k, group - k - gives_way, anchors], -1)
    leaves = np.divide(path.leave, some, out=np.zeros_like(path.leave), where=some > 0)
    miss = (chance * (group - k) * credit[:, 1]).sum(1)[:, None] * leaves
    # An anchor takes the slot of one of the shallowest misses.
    tail = np.cumsum(leaves[:, ::-1], axis=1)[:, ::-1]
    beyond = np.concatenate([tail[:, 1:], np.zeros_like(tail[:, :1])], axis=1)
    for hits in np.flatnonzero(gives_way):
        shallowest = tail ** (group - hits) - beyond ** (group - hits)
        miss -= chance[:, hits, None] * credit[hits, 1] * shallowest
    rows, active = (sizes * sent).sum(1), (sizes * (sent & (credit != 0))).sum(1)
    return _Law(
        hit=chance @ (sizes * credit)[:, [0, 2]].sum(1),
        miss=miss,
        rows=chance @ rows,
        active=chance @ active,
        repaired=chance @ anchors,
        silent=chance @ (rows == 0),
        live=chance @ (active > 0),
    )


def _pair(strategy: Strategy, path: Path, group: int) -> _Law:
    law = pair_law(path, group)
    law /= law.sum((1, 2), keepdims=True)
    positive, negative, fed, sent = pair_weights(strategy)
    anchors = strategy.anchors
    hardest = law[:, 1, 1:] + law[:, 0, 1:] * (anchors and group > 1)
    usable = hardest.sum(1)
    return _Law(
        hit=positive * usable,
        miss=negative * hardest,
        rows=sent * usable,
        active=fed * usable,
        repaired=law[:, 0].sum(1) * anchors,
        silent=1 - usable * (sent > 0),
        live=usable * (fed > 0),
    )
