"""One learning step of R runs: roll out, judge, repair, credit, and the losses to differentiate.

The general path, readable and slow: it serves every strategy through autograd. Shapes: R runs,
B prompts, G rollouts, L codes, U rows that reach the actor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from recast import accounting
from recast.groups import RolloutGroups
from recast.loss import Rows, pack, strategy_loss
from recast.signal import Signal, build_signal
from recast.stage import State
from recast.stages.gate import Visit
from recast.stages.supervised import Evidence, Several, of_all_targets
from recast.strategy import Strategy
from sim.decoding.sample import path_codes, path_logp
from sim.general.rollouts import Batch, Roller
from sim.general.runs import Runs
from sim.policies.protocol import Params
from sim.seeds import uniforms
from sim.settings import Training
from sim.worlds.world import World

_T = TypeVar("_T", "Batch", RolloutGroups, Rows, Signal)


@dataclass(frozen=True)
class Collected:
    """One rollout phase. signal, items `[R, B, W]` (anchors written in) and rows: None when the
    strategy samples nothing. rollouts, skipped `[R]`: sampled, and prompts never rolled out."""

    batch: Batch
    rollouts: Tensor
    skipped: Tensor
    signal: Signal | None = None
    items: Tensor | None = None
    rows: Rows | None = None
    state: State = field(default_factory=dict)


def collect(runs: Runs, params: Params, step: int, state: State) -> Collected:
    """Roll out with `params`, judge, repair and credit. state: from the previous step, or
    `Strategy.start`."""
    world, strategy, seeds, how = runs.world, runs.strategy, runs.seeds, runs.how
    roller = Roller(runs.policy, params, world, strategy, seeds, step, how)
    batch = roller.draw("prompts", step)
    none = torch.zeros(len(seeds), dtype=torch.int64)
    if not strategy.needs_rollouts:
        return Collected(batch, none, none, state=state)
    with torch.no_grad():
        keep, visit = _gate(world, strategy, seeds, step, how, batch.prompt, state)
        rolled = roller.roll(batch, keep)
        batch, groups = rolled.batch, rolled.groups
        signal = build_signal(strategy, groups, state)
        state = signal.state
        if visit is not None:
            state = {
                **state,
                **strategy.stage("gate").carry(visit, rolled.first, keep, state=state),
            }
        items = signal.groups.item
        assert items is not None
        items = torch.where(items < 0, batch.target.unsqueeze(-1), items)
        rows = pack(signal, strategy.width(how.group))
    return Collected(batch, rolled.rollouts, (~keep).sum(-1), signal, items, rows, state)


def updates(
    runs: Runs, params: Params, collected: Collected, progress: float
) -> list[Callable[[Params], Tensor]]:
    """The losses of one rollout phase, one per optimizer step; each maps parameters to `[R]`.

    Prompts are split so that about `mini_batch` rows share a step; all of them measure their ratio
    against `params`, which rolled out, and their KL term against the runs' start. progress: share
    of training done, for schedules.
    """
    parts = splits(runs.strategy, runs.how, collected.batch.prompt.shape[1])
    old = None
    known = collected.rows is not None and collected.rows.index.shape[-1] > 0
    if len(parts) > 1 and known and collected.items is not None and collected.rows is not None:
        with torch.no_grad():
            encoded = runs.policy.encode(params, collected.batch.context)
            index = collected.items.gather(-1, collected.rows.index)
            old = path_logp(runs.policy, params, runs.world.catalogue, encoded, index)

    def loss_of(part: slice) -> Callable[[Params], Tensor]:
        def loss(leaves: Params) -> Tensor:
            before = None if old is None else old[:, part]
            return _loss(runs, leaves, _part(collected, part), before, progress)

        return loss

    return [loss_of(part) for part in parts]


def sees_all_targets(strategy: Strategy, how: Training, batch: Batch) -> bool:
    """Whether the supervised term sees more than one target of a prompt."""
    if not strategy.learns_from_target or batch.targets.shape[-1] == 1:
        return False
    own = strategy.stage("supervised").stage
    return how.targets == "all" or (own.whole and "rollouts" not in own.needs)


def splits(strategy: Strategy, how: Training, prompts: int) -> list[slice]:
    """The prompts that share each optimizer step of a phase: about `mini_batch` rows of them."""
    wide = strategy.width(how.group) + int(strategy.learns_from_target)
    size = max(1, how.mini_batch // wide) if how.mini_batch else prompts
    return [slice(start, start + size) for start in range(0, prompts, size)]


def account(
    strategy: Strategy, how: Training, collected: Collected, steps: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What one phase cost, counts `[R]` of `CostLedger`, and how much of its groups taught."""
    prompts, labels = collected.batch.prompt.shape[1], None
    if sees_all_targets(strategy, how, collected.batch):
        labels = (collected.batch.targets >= 0).sum((-2, -1))
    return accounting.account(
        strategy, collected.signal, prompts, collected.rollouts, steps, labels
    )


def _gate(
    world: World,
    strategy: Strategy,
    seeds: tuple[int, ...],
    step: int,
    how: Training,
    prompt: Tensor,
    state: State,
) -> tuple[Tensor, Visit | None]:
    """Which prompts are rolled out, bool `[R, B]`, and the visit that the gate must remember."""
    if not strategy.has_gate:
        return torch.ones_like(prompt, dtype=torch.bool), None
    draw = uniforms(seeds, "gate", step, (how.batch,))
    visit = Visit(prompt, draw, step < len(world.train) // how.batch)
    keep: Tensor = strategy.stage("gate")(visit, state=state)
    return keep, visit


def _part(collected: Collected, part: slice) -> Collected:
    """The prompts of one mini-batch."""
    if part.start == 0 and part.stop >= collected.batch.prompt.shape[1]:
        return collected

    def cut(whole: _T) -> _T:
        found: dict[str, Any] = {}
        for item in fields(whole):
            value = getattr(whole, item.name)
            if isinstance(value, Tensor):
                found[item.name] = value[:, part]
            elif isinstance(value, RolloutGroups):
                found[item.name] = cut(value)
        return replace(whole, **found)

    return replace(
        collected,
        batch=cut(collected.batch),
        signal=None if collected.signal is None else cut(collected.signal),
        items=None if collected.items is None else collected.items[:, part],
        rows=None if collected.rows is None else cut(collected.rows),
    )


def _loss(
    runs: Runs, params: Params, part: Collected, old_logp: Tensor | None, progress: float
) -> Tensor:
    """Loss of each run on one mini-batch, `[R]`; only the rows that reach the actor are scored."""
    policy, strategy, how, reference = runs.policy, runs.strategy, runs.how, runs.start
    catalogue = runs.world.catalogue
    encoded = policy.encode(params, part.batch.context)
    needs_reference = bool(how.kl_weight) or "reference" in strategy.needs
    frozen = None
    if needs_reference:
        with torch.no_grad():
            frozen = policy.encode(reference, part.batch.context)
    evidence = None
    if strategy.learns_from_target:

        def known(items: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
            own = path_logp(policy, params, catalogue, encoded, items)
            then = codes = None
            with torch.no_grad():
                if frozen is not None:
                    then = path_logp(policy, reference, catalogue, frozen, items)
                if "path" in strategy.needs:
                    codes = path_codes(policy, params, catalogue, encoded, items)
            return own, then, codes

        one = known(part.batch.target.unsqueeze(-1))
        logp, target_ref, codes = (None if x is None else x.squeeze(2) for x in one)
        assert logp is not None
        others = None
        if sees_all_targets(strategy, how, part.batch):
            others = Several(part.batch.targets >= 0, *known(part.batch.targets.clamp(min=0)))
        evidence = Evidence(logp, target_ref, progress, path_logp=codes, others=others)
    if part.signal is None or part.items is None or part.rows is None:
        assert evidence is not None
        return of_all_targets(strategy.stage("supervised"), evidence).mean(-1)
    row_logp = ref_logp = None
    if part.rows.index.shape[-1]:
        items = part.items.gather(-1, part.rows.index)
        row_logp = path_logp(policy, params, catalogue, encoded, items)
        old_logp = row_logp.detach() if old_logp is None else old_logp
        if frozen is not None:
            with torch.no_grad():
                ref_logp = path_logp(policy, reference, catalogue, frozen, items)
    return strategy_loss(
        strategy,
        part.signal,
        part.rows,
        length=catalogue.depth,
        settings=how.loss,
        logp=row_logp,
        old_logp=old_logp,
        ref_logp=ref_logp,
        evidence=evidence,
    )
