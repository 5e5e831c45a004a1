"""One learning step of R runs: roll out, judge, repair, credit, and the losses to differentiate.

The general path, readable and slow: it serves every strategy through autograd. Shapes: R runs,
B prompts, G rollouts, L codes, U rows that reach the actor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.loss import KLEstimator, LossSettings, Rows, pack, strategy_loss
from recast.stages.gate import Visit, after
from recast.stages.repair import REPAIRS, anchored
from recast.stages.supervised import Evidence
from recast.strategy import Signal, State, Strategy, build_signal
from recast.structure import level_scores, matched_levels
from sim.decoding.beam import beam
from sim.decoding.sample import path_entropy, path_logp, sample
from sim.policies.protocol import Params, Policy
from sim.seeds import minibatch, uniforms
from sim.worlds.world import World

_T = TypeVar("_T", "Batch", RolloutGroups, Rows, Signal)

Kernel = Literal["compiled", "general"]

REFILLS = 10
"""Rounds of further prompts that dynamic sampling may roll out before it gives up filling."""


@dataclass(frozen=True)
class Training:
    """How long and how wide. batch: prompts per step B; group: rollouts per prompt G; rollouts:
    i.i.d. samples at `temperature`, or the G distinct items of a beam search; clip and KL as in the
    loss; mini_batch: rows per optimizer step, 0 = one step for everything that a step
    rolled out; updates: from sampled groups, or expected over everything a group may draw
    (`sim.shortcuts.expected`); kernel: `compiled` trains by `sim.kernel` what it serves,
    `general` all by autograd; evaluations: how many after the start, evenly spaced in steps;
    curve_prompts: test prompts behind each point of the curve (0 = all); start and end are measured
    on all as well."""

    steps: int = 300
    batch: int = 32
    group: int = 32
    rollouts: Literal["sample", "beam"] = "sample"
    temperature: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl_weight: float = 0.0
    kl_estimator: KLEstimator = "k3"
    mini_batch: int = 0
    updates: Literal["sampled", "expected"] = "sampled"
    kernel: Kernel = "compiled"
    evaluations: int = 10
    curve_prompts: int = 128

    @property
    def loss(self) -> LossSettings:
        """What the loss needs of it."""
        return LossSettings(self.clip_low, self.clip_high, self.kl_weight, self.kl_estimator)


@dataclass(frozen=True)
class Batch:
    """prompt `[R, B]` place in the training set; context `[R, B, D]`; target `[R, B]` item of the
    supervised term and of the anchor; targets `[R, B, M]` every item that is a hit, -1 = none."""

    prompt: Tensor
    context: Tensor
    target: Tensor
    targets: Tensor


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


def collect(
    policy: Policy,
    params: Params,
    world: World,
    strategy: Strategy,
    seeds: tuple[int, ...],
    step: int,
    how: Training,
    state: State,
) -> Collected:
    """Roll out, judge, repair and credit. state: from the previous step, {} before the first."""
    prompt = minibatch(seeds, "prompts", step, how.batch, len(world.train))
    batch = _batch(world, strategy, seeds, step, prompt, next(iter(params.values())).dtype)
    none = torch.zeros(len(seeds), dtype=torch.int64)
    if not strategy.needs_rollouts:
        return Collected(batch, none, none)
    with torch.no_grad():
        keep, visit = _gate(world, strategy, seeds, step, how, prompt, state)
        if strategy.stage("repair").stage is REPAIRS["drop_constant"]:
            batch, groups, rollouts = _refilled(
                policy, params, world, strategy, seeds, step, how, batch
            )
        else:
            groups = _roll_out(policy, params, world, strategy, seeds, step, how, batch)
            groups = replace(groups, valid=groups.valid & keep.unsqueeze(-1))
            rollouts = groups.valid.sum((-2, -1))
        signal = build_signal(strategy, groups, state)
        state = signal.state
        if visit is not None:
            state = after(visit, state, groups, keep)
        items = groups.item if groups.item is not None else none
        target = batch.target.unsqueeze(-1)
        if signal.rows.shape[-1] > items.shape[-1]:
            items = torch.cat([items, target], -1)
        items = torch.where(signal.groups.origin == int(Origin.ANCHOR), target, items)
        rows = pack(signal, strategy.width(how.group))
    return Collected(batch, rollouts, (~keep).sum(-1), signal, items, rows, state)


def updates(
    policy: Policy,
    params: Params,
    reference: Params,
    world: World,
    strategy: Strategy,
    how: Training,
    collected: Collected,
    progress: float,
) -> list[Callable[[Params], Tensor]]:
    """The losses of one rollout phase, one per optimizer step; each maps parameters to `[R]`.

    Prompts are split so that about `mini_batch` rows share a step; all of them measure their ratio
    against `params`, which rolled out. progress: share of training done, for schedules.
    """
    parts = splits(strategy, how, collected.batch.prompt.shape[1])
    old = None
    known = collected.rows is not None and collected.rows.index.shape[-1] > 0
    if len(parts) > 1 and known and collected.items is not None and collected.rows is not None:
        with torch.no_grad():
            encoded = policy.encode(params, collected.batch.context)
            index = collected.items.gather(-1, collected.rows.index)
            old = path_logp(policy, params, world.catalogue, encoded, index)

    def loss_of(part: slice) -> Callable[[Params], Tensor]:
        def loss(leaves: Params) -> Tensor:
            return _loss(
                policy,
                leaves,
                reference,
                world,
                strategy,
                how,
                _part(collected, part),
                None if old is None else old[:, part],
                progress,
            )

        return loss

    return [loss_of(part) for part in parts]


def splits(strategy: Strategy, how: Training, prompts: int) -> list[slice]:
    """The prompts that share each optimizer step of a phase: about `mini_batch` rows of them."""
    wide = strategy.width(how.group) + int(strategy.learns_from_target)
    size = max(1, how.mini_batch // wide) if how.mini_batch else prompts
    return [slice(start, start + size) for start in range(0, prompts, size)]


def account(
    strategy: Strategy, collected: Collected, steps: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What one phase cost, counts `[R]` of `CostLedger`, and how much of its groups taught."""
    runs, prompts = collected.batch.prompt.shape
    zero = torch.zeros(runs, dtype=torch.int64)
    supervised = prompts if strategy.learns_from_target else 0
    spent = {
        "rollouts": collected.rollouts,
        "scored_rows": collected.rollouts,
        "optimizer_steps": zero + steps,
    }
    signal = collected.signal
    if signal is None:
        alone = torch.ones(runs, dtype=torch.float64)
        spent |= {"updated_rows": zero + supervised, "labels": zero + supervised}
        spent |= {"skipped_prompts": zero}
        counted = {"learnable": alone, "signal_count": alone, "update_width": alone}
        return spent, counted | {"repaired": 0 * alone}
    width = signal.rows.sum(-1) + int(signal.supervised)
    repaired = anchored(signal.groups)
    spent |= {
        "updated_rows": width.sum(-1),
        "labels": zero + supervised if supervised else repaired.sum(-1),
        "skipped_prompts": (width == 0).sum(-1),
    }
    counted = {
        "learnable": (signal.count > 0).double().mean(-1),
        "signal_count": signal.count.double().mean(-1),
        "update_width": width.double().mean(-1),
        "repaired": repaired.double().mean(-1),
    }
    return spent, counted


def _batch(
    world: World,
    strategy: Strategy,
    seeds: tuple[int, ...],
    step: int,
    prompt: Tensor,
    dtype: torch.dtype,
) -> Batch:
    targets = world.train.all_targets[prompt]
    target = world.train.target[prompt]
    if targets.shape[-1] > 1 and strategy.anchor_choice != "first":
        # The anchor is drawn uniformly from a prompt's targets, by the run's own stream.
        known = targets >= 0
        draw = uniforms(seeds, "anchors", step, tuple(prompt.shape[1:]))
        place = (draw * known.sum(-1)).long().unsqueeze(-1)
        chosen = (known & (known.cumsum(-1) == place + 1)).to(torch.uint8).argmax(-1, keepdim=True)
        target = targets.gather(-1, chosen).squeeze(-1)
    return Batch(prompt, world.train.context[prompt].to(dtype), target, targets)


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
    if strategy.gate == "none":
        return torch.ones_like(prompt, dtype=torch.bool), None
    draw = uniforms(seeds, "gate", step, (how.batch,))
    visit = Visit(prompt, draw, step < len(world.train) // how.batch)
    keep: Tensor = strategy.stage("gate")(visit, state)
    return keep, visit


def _roll_out(
    policy: Policy,
    params: Params,
    world: World,
    strategy: Strategy,
    seeds: tuple[int, ...],
    step: int,
    how: Training,
    batch: Batch,
    refill: int = 0,
) -> RolloutGroups:
    """Sample and judge the groups of one batch; refill names a further round of the same step."""
    catalogue, dtype = world.catalogue, batch.context.dtype
    counter = step * REFILLS + refill if refill else step
    name = "/refill" if refill else ""
    width = strategy.sampled(how.group)
    encoded = policy.encode(params, batch.context)
    rank = None
    if how.rollouts == "beam":
        found, _ = beam(policy, params, catalogue, encoded, width)
        rank = torch.arange(width).expand_as(found)
    else:
        draws = uniforms(seeds, f"rollouts{name}", counter, (how.batch, width, catalogue.depth))
        found = sample(policy, params, catalogue, encoded, draws, how.temperature)
    # A catalogue smaller than the beam leaves places without an item.
    there, items = found >= 0, found.clamp(min=0)
    known = (batch.targets >= 0).unsqueeze(-2)
    wanted = batch.targets.clamp(min=0).unsqueeze(-2)
    agree = matched_levels(catalogue.codes[items].unsqueeze(-2), catalogue.codes[wanted])
    matched = agree.masked_fill(~known, 0).amax(-1).masked_fill(~there, 0)
    entropy = None
    if "entropy" in strategy.needs:
        entropy = path_entropy(policy, params, catalogue, encoded, items)
    return RolloutGroups(
        reward=(matched == catalogue.depth).to(dtype),
        score=level_scores(catalogue.depth, dtype)[matched],
        valid=there,
        origin=torch.full_like(items, int(Origin.POLICY), dtype=torch.int8),
        beam_rank=rank,
        tie_key=uniforms(seeds, f"ties{name}", counter, (how.batch, width)).to(dtype),
        entropy=entropy,
        matched=matched,
        item=items,
        depth=catalogue.depth,
        binary=True,
    )


def _refilled(
    policy: Policy,
    params: Params,
    world: World,
    strategy: Strategy,
    seeds: tuple[int, ...],
    step: int,
    how: Training,
    batch: Batch,
) -> tuple[Batch, RolloutGroups, Tensor]:
    """Dynamic sampling: roll out further prompts until B groups vary, `REFILLS` rounds at most.

    Groups that stay unfilled are invalid. A run stops paying once its batch is full.
    """
    runs, prompts = batch.prompt.shape
    filled = torch.zeros(runs, dtype=torch.int64)
    rollouts = torch.zeros(runs, dtype=torch.int64)
    kept: tuple[Batch, RolloutGroups] | None = None
    for refill in range(REFILLS):
        if refill:
            counter = step * REFILLS + refill
            prompt = minibatch(seeds, "prompts/refill", counter, how.batch, len(world.train))
            batch = _batch(world, strategy, seeds, step, prompt, batch.context.dtype)
        groups = _roll_out(policy, params, world, strategy, seeds, step, how, batch, refill)
        rollouts += (filled < prompts) * groups.valid.sum((-2, -1))
        varied = groups.hit.any(-1) & groups.miss.any(-1)
        place = filled.unsqueeze(-1) + varied.cumsum(-1) - 1
        taken = varied & (place < prompts)
        kept = (batch, groups) if kept is None else kept
        # Slot `prompts` swallows the groups that are not taken.
        slot = torch.where(taken, place, prompts)
        kept = (_scatter(kept[0], batch, slot), _scatter(kept[1], groups, slot))
        filled = (filled + varied.sum(-1)).clamp(max=prompts)
        if bool((filled == prompts).all()):
            break
    assert kept is not None
    live = torch.arange(prompts) < filled.unsqueeze(-1)
    found = replace(kept[1], valid=kept[1].valid & live.unsqueeze(-1))
    return kept[0], found, rollouts


def _scatter(into: _T, new: _T, slot: Tensor) -> _T:
    """Write the prompts of `new` at `slot` `[R, B]` along axis 1; slot B is dropped."""
    changed: dict[str, Any] = {}
    for item in fields(into):
        old, value = getattr(into, item.name), getattr(new, item.name)
        if isinstance(old, Tensor):
            padded = torch.cat([old, old[:, :1]], 1)
            index = slot.view(*slot.shape, *[1] * (old.ndim - 2)).expand(value.shape)
            changed[item.name] = padded.scatter(1, index, value)[:, :-1]
    return replace(into, **changed)


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
    policy: Policy,
    params: Params,
    reference: Params,
    world: World,
    strategy: Strategy,
    how: Training,
    part: Collected,
    old_logp: Tensor | None,
    progress: float,
) -> Tensor:
    """Loss of each run on one mini-batch, `[R]`; only the rows that reach the actor are scored."""
    catalogue = world.catalogue
    encoded = policy.encode(params, part.batch.context)
    needs_reference = bool(how.kl_weight) or "reference" in strategy.needs
    frozen = None
    if needs_reference:
        with torch.no_grad():
            frozen = policy.encode(reference, part.batch.context)
    evidence = None
    if strategy.learns_from_target:
        target = part.batch.target.unsqueeze(-1)
        target_ref = None
        if frozen is not None:
            with torch.no_grad():
                target_ref = path_logp(policy, reference, catalogue, frozen, target).squeeze(-2)
        logp = path_logp(policy, params, catalogue, encoded, target).squeeze(-2)
        evidence = Evidence(logp, target_ref, progress)
    if part.signal is None or part.items is None or part.rows is None:
        assert evidence is not None
        alone: Tensor = strategy.stage("supervised")(evidence)
        return alone.mean(-1)
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
