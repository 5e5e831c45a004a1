"""The fast path: one step's gradient from the cheapest exact shortcut, for many runs at once.

Which shortcut serves a strategy is decided from what the strategy declares and from probing it,
never from its name:

- `pair`: only the boundary pair learns;
- `hits`: every hit of a group, every miss and every anchor gets what the number of hits dictates;
- `levels`: credit may look at where each miss leaves the target's path as well;
- `target`: no rollouts at all;
- none: the general path of `sim.training.step` trains the strategy, on the shared tree of
  `sim.decoding.shared_tree`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from recast.loss import LossSettings
from recast.strategy import Strategy
from sim.policies.nodes import NodePolicy, Params
from sim.policies.protocol import Policy
from sim.seeds import minibatch, stream
from sim.shortcuts import walk as lazy
from sim.shortcuts.hits import hit_table, hits_plan
from sim.shortcuts.levels import depends_on_levels_alone, levels_plan
from sim.shortcuts.pair import pair_plan
from sim.shortcuts.plan import Drawn, Plan, supervise, target_plan
from sim.shortcuts.walk import KL_SLOPES, Path, Reference, Walkers, set_broken_aside, spoil
from sim.training.step import Training
from sim.worlds.world import World

OUTCOMES = frozenset({"target", "tie_key", "matched", "score"})
"""Inputs that follow from where each rollout leaves the target's path."""


def plan_for(
    strategy: Strategy, group: int, depth: int, loss: LossSettings, dtype: torch.dtype
) -> Plan | None:
    """The cheapest shortcut that is exact for the strategy, or None."""
    repair = strategy.stage("repair").stage
    on_policy = strategy.stage("anchor_ratio").stage.idle and not strategy.bends
    if strategy.has_gate or strategy.coupling == "state" or not on_policy:
        return None
    once = strategy.rounds is None and not strategy.oversamples
    if repair.drops or not once or not strategy.needs <= OUTCOMES:
        return None
    if not strategy.needs_rollouts:
        return target_plan()
    if not strategy.has_credit:
        loss = replace(loss, kl_weight=0.0)
    always = strategy.anchors and not strategy.draws_repair
    simple = repair.idle or (repair.injects == "miss" and always)
    if strategy.coupling == "group":
        if simple and strategy.stage("select").stage.boundary:
            return pair_plan(strategy, group, loss)
        if simple or (repair.injects == "extra" and always):
            table = hit_table(strategy, group, depth)
            if table is not None:
                return hits_plan(strategy, group, depth, table, loss)
    if depends_on_levels_alone(strategy, group, depth):
        return levels_plan(strategy, group, depth, loss, dtype)
    return None


@dataclass(frozen=True)
class Update:
    """grads `[R, ...]`; spent, counted: as `sim.training.step.account`; drawn, path, walked: for
    tests."""

    grads: Params
    spent: dict[str, Tensor]
    counted: dict[str, Tensor]
    drawn: Drawn
    path: Path
    walked: Walkers | None


class FastPath:
    """Steps of R runs of one strategy. Build one with `FastPath.of`."""

    def __init__(
        self,
        plan: Plan,
        policy: NodePolicy,
        world: World,
        strategy: Strategy,
        reference: Params,
        seeds: tuple[int, ...],
        how: Training,
    ) -> None:
        self.plan, self._policy, self._world, self._strategy = plan, policy, world, strategy
        self._reference, self._seeds, self._how = reference, seeds, how
        self._rngs = tuple(stream(seed, "lazy rollouts") for seed in seeds)
        dtype = next(iter(reference.values())).dtype
        self._context = world.train.context.to(dtype)
        self._score = lazy.score_path
        self._descend: Callable[..., tuple[Params, Walkers | None]] = lazy.descend
        if how.kernel == "compiled":
            from sim.shortcuts import compiled

            if compiled.serves(policy, world.catalogue):
                self._score, self._descend = compiled.score_path, compiled.descend

    @staticmethod
    def of(
        policy: Policy,
        world: World,
        strategy: Strategy,
        reference: Params,
        seeds: tuple[int, ...],
        how: Training,
    ) -> FastPath | None:
        """The fast path of these runs, or None where the general path must do.

        It needs a policy with node passes, one target per prompt, i.i.d. rollouts, one optimizer
        step per rollout phase, and a plan for the strategy.
        """
        several = getattr(world.train, "targets", None) is not None
        general = bool(how.mini_batch) or how.rollouts != "sample" or several
        if general or not isinstance(policy, NodePolicy):
            return None
        dtype = next(iter(reference.values())).dtype
        plan = plan_for(strategy, how.group, world.catalogue.depth, how.loss, dtype)
        if plan is None:
            return None
        return FastPath(plan, policy, world, strategy, reference, seeds, how)

    def keep(self, runs: Tensor) -> None:
        """Go on with some of the runs only; bool `[R]`."""
        chosen = runs.nonzero().view(-1).tolist()
        self._seeds = tuple(self._seeds[run] for run in chosen)
        self._rngs = tuple(self._rngs[run] for run in chosen)
        self._reference = {name: value[runs] for name, value in self._reference.items()}

    @torch.no_grad()
    def step(self, params: Params, step: int, *, name_items: bool = False) -> Update:
        """One rollout phase and the gradient of its loss."""
        how, policy, strategy = self._how, self._policy, self._strategy
        catalogue, runs = self._world.catalogue, len(self._seeds)
        index = minibatch(self._seeds, "prompts", step, how.batch, len(self._world.train))
        context, target = self._context[index], self._world.train.target[index]
        encoded = policy.encode_rows(params, context)
        path = self._score(policy, params, catalogue, encoded, target, how.temperature)
        broken = set_broken_aside(path)
        drawn = self.plan.draw(path, self._rngs, how.batch)
        demand = drawn.demand
        if strategy.learns_from_target:
            progress = step / max(1, how.steps - 1)
            taught = supervise(strategy, path, drawn.hits, how.group, how.batch, progress)
            demand = demand.taught(taught)
        descend = self._descend
        if demand.kl is not None:
            encoded_ref = policy.encode_rows(self._reference, context)
            reference = Reference(self._reference, encoded_ref, KL_SLOPES[how.kl_estimator])
            descend = partial(lazy.descend, reference=reference)
        grads, walked = descend(
            policy,
            params,
            catalogue,
            context,
            encoded,
            path,
            demand,
            self._rngs,
            how.temperature,
            name_items=name_items,
        )
        spoil(grads, broken)
        live = drawn.active > 0
        spent, counted = account(
            strategy, how, runs, drawn.rows, drawn.active, drawn.repaired, live, drawn.rows == 0
        )
        return Update(grads, spent, counted, drawn, path, walked)


def account(
    strategy: Strategy,
    how: Training,
    runs: int,
    rows: Tensor,
    active: Tensor,
    repaired: Tensor,
    live: Tensor,
    silent: Tensor,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """As `sim.training.step.account`, from `Drawn` or from expectations of it.

    rows, active, repaired `[P]` as in `Drawn`; live, silent `[P]`: groups with any credit, and
    without any row. The target of a supervised term is a row with credit in every group.
    """
    taught = int(strategy.learns_from_target)
    width = rows.view(runs, -1) + taught
    fixed = repaired.view(runs, -1)
    one = torch.ones(runs, dtype=width.dtype)
    sampled = one * (how.batch * how.group if strategy.needs_rollouts else 0)
    spent = {
        "rollouts": sampled,
        "scored_rows": sampled,
        "updated_rows": width.sum(-1),
        "optimizer_steps": one,
        "labels": one * how.batch if taught else fixed.sum(-1),
        "skipped_prompts": 0 * one if taught else silent.view(runs, -1).sum(-1),
    }
    counted = {
        "learnable": one.double() if taught else live.double().view(runs, -1).mean(-1),
        "signal_count": (active.view(runs, -1) + taught).double().mean(-1),
        "update_width": width.double().mean(-1),
        "repaired": fixed.double().mean(-1),
    }
    return spent, counted
