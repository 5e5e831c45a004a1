"""The batched loop: R runs of one strategy in one tensor program, `[R, B, G]`.

Runs differ in seed and learning rate; they never mix, because every tensor carries the run axis
first and every draw comes from the run's own counter-based stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.ledger import CostLedger
from recast.loss import KLEstimator, denominator, policy_loss, supervised_loss
from recast.repair import anchored
from recast.strategies import Signal, Strategy, build_signal
from recast.structure import level_scores, matched_levels
from sim.evaluate import Snapshot, snapshot
from sim.optimizer import Adam
from sim.policy import Params, Policy
from sim.rollout import path_logp, sample
from sim.seeds import minibatch, uniforms
from sim.world import World


@dataclass(frozen=True)
class Training:
    """How long and how wide. batch: prompts per step B; group: rollouts per prompt G; clip and KL
    as in the loss; evaluations: how many after the start, evenly spaced in steps; curve_prompts:
    test prompts behind each of them (0 = all), the start and the end use all as well."""

    steps: int = 300
    batch: int = 32
    group: int = 32
    temperature: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl_weight: float = 0.0
    kl_estimator: KLEstimator = "k3"
    evaluations: int = 10
    curve_prompts: int = 128


@dataclass(frozen=True)
class TrainedRun:
    """rows: one mapping per (evaluation, split, slice). diverged_at: the step at which a
    parameter became non-finite, after which the run is frozen; None for a healthy run."""

    rows: tuple[dict[str, float | int | str | None], ...]
    diverged_at: int | None


def train(
    policy: Policy,
    world: World,
    start: Params,
    strategy: Strategy,
    seeds: tuple[int, ...],
    rates: Tensor,
    how: Training,
    progress: Callable[[int], None] = lambda _: None,
    opening: Snapshot | None = None,
) -> list[TrainedRun]:
    """Train R runs from `start` `[R, ...]`; seeds has length R, rates `[R]` are Adam's.

    opening: the evaluation of `start`, when the caller has it already. `progress` is called after each step with the number of run-steps done.
    """
    dtype = next(iter(start.values())).dtype
    runs = len(seeds)
    params, optimizer = start, Adam(start)
    if opening is None:
        opening = snapshot(policy, start, world, how.group, curve_prompts=how.curve_prompts)
    diverged: list[int | None] = [None] * runs
    ledger = [CostLedger()] * runs
    tally: list[dict[str, Tensor]] = []
    rows: list[list[dict[str, float | int | str | None]]] = [[] for _ in seeds]
    grid = {round(how.steps * (i + 1) / how.evaluations) for i in range(how.evaluations)}

    def evaluate(step: int) -> None:
        now = opening
        if step:
            now = snapshot(
                policy,
                params,
                world,
                how.group,
                curve_prompts=how.curve_prompts,
                full=step == how.steps,
                matching=opening.entropy,
            )
        seen = {k: torch.stack([t[k] for t in tally]).mean(0) for k in tally[0]} if tally else {}
        for split, found in now.found.items():
            for run, slices in enumerate(found):
                for label, values in slices.items():
                    rows[run].append(
                        {
                            "split": split,
                            "slice": label,
                            "step": step,
                            **asdict(ledger[run]),
                            **values,
                            "temperature_matched": float(now.temperature[run]),
                            **{
                                name: float(seen[name][run]) if seen else None
                                for name in (
                                    "learnable",
                                    "signal_count",
                                    "update_width",
                                    "repaired",
                                )
                            },
                        }
                    )
        tally.clear()

    evaluate(0)
    for step in range(how.steps):
        index = minibatch(seeds, "prompts", step, how.batch, len(world.train))
        context = world.train.context[index].to(dtype)
        target = world.train.target[index]
        if strategy.needs_rollouts:
            signal, items = _collect(
                policy, params, world, strategy, seeds, step, how, context, target
            )
        else:
            signal, items = None, None
        loss_params = {name: value.detach().requires_grad_() for name, value in params.items()}
        loss = _loss(
            policy, loss_params, start, world, strategy, how, context, target, signal, items
        )
        grads = dict(
            zip(
                loss_params,
                torch.autograd.grad(loss.sum(), list(loss_params.values())),
                strict=True,
            )
        )
        after = optimizer.step(params, grads, rates.to(dtype))
        healthy = torch.stack([v.flatten(1).isfinite().all(-1) for v in after.values()]).all(0)
        for run in range(runs):
            if diverged[run] is None and not bool(healthy[run]):
                diverged[run] = step + 1
        frozen = torch.tensor([d is not None for d in diverged])
        params = {
            name: torch.where(frozen.view(-1, *[1] * (value.ndim - 1)), params[name], value)
            for name, value in after.items()
        }
        spent, counted = _account(strategy, signal, how, runs)
        tally.append(counted)
        ledger = [
            CostLedger(**{k: v + int(spent[k][run]) for k, v in asdict(ledger[run]).items()})
            for run in range(runs)
        ]
        progress(runs)
        if step + 1 in grid:
            evaluate(step + 1)
    return [TrainedRun(tuple(r), d) for r, d in zip(rows, diverged, strict=True)]


def _collect(
    policy: Policy,
    params: Params,
    world: World,
    strategy: Strategy,
    seeds: tuple[int, ...],
    step: int,
    how: Training,
    context: Tensor,
    target: Tensor,
) -> tuple[Signal, Tensor]:
    """Roll out, judge, repair and credit; the anchor's slot holds the target's item."""
    catalogue = world.catalogue
    shape = (how.batch, how.group, catalogue.depth)
    with torch.no_grad():
        encoded = policy.encode(params, context)
        draws = uniforms(seeds, "rollouts", step, shape)
        items = sample(policy, params, catalogue, encoded, draws, how.temperature)
    wanted = target.unsqueeze(-1)
    matched = matched_levels(catalogue.codes[items], catalogue.codes[wanted])
    groups = RolloutGroups(
        reward=(items == wanted).to(context.dtype),
        score=level_scores(catalogue.depth, context.dtype)[matched],
        valid=torch.ones_like(items, dtype=torch.bool),
        origin=torch.full_like(items, int(Origin.POLICY), dtype=torch.int8),
        tie_key=uniforms(seeds, "ties", step, shape[:2]).to(context.dtype),
    )
    signal = build_signal(strategy, groups)
    anchor = signal.groups.origin == int(Origin.ANCHOR)
    return signal, torch.where(anchor, wanted, items)


def _loss(
    policy: Policy,
    params: Params,
    reference: Params,
    world: World,
    strategy: Strategy,
    how: Training,
    context: Tensor,
    target: Tensor,
    signal: Signal | None,
    items: Tensor | None,
) -> Tensor:
    """Loss of each run, `[R]`; only the rows that reach the actor are scored."""
    catalogue = world.catalogue
    encoded = policy.encode(params, context)
    loss = context.new_zeros(context.shape[0])
    if signal is not None and items is not None:
        width = strategy.width(how.group)
        rows, advantage = signal.rows, signal.advantage
        if width < how.group:
            keep = rows.to(torch.uint8).topk(width, dim=-1).indices
            items, rows, advantage = (t.gather(-1, keep) for t in (items, rows, advantage))
        logp = path_logp(policy, params, catalogue, encoded, items)
        anchor_logp = None
        if how.kl_weight:
            with torch.no_grad():
                frozen = policy.encode(reference, context)
                anchor_logp = path_logp(policy, reference, catalogue, frozen, items)
        loss = loss + policy_loss(
            logp,
            logp.detach(),
            advantage,
            rows,
            denominator(signal, strategy.denominator, catalogue.depth),
            clip_low=how.clip_low,
            clip_high=how.clip_high,
            ref_logp=anchor_logp,
            kl_weight=how.kl_weight,
            kl_estimator=how.kl_estimator,
        )
    if strategy.supervised:
        logp = path_logp(policy, params, catalogue, encoded, target.unsqueeze(-1))
        loss = loss + supervised_loss(logp.sum((-2, -1)), strategy.supervised)
    return loss


def _account(
    strategy: Strategy, signal: Signal | None, how: Training, runs: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What one step cost and how much of its groups taught; counts `[R]`, shares `[R]`."""
    supervised = how.batch if strategy.supervised else 0
    if signal is None:
        zero = torch.zeros(runs, dtype=torch.int64)
        alone = torch.ones(runs, dtype=torch.float64)
        spent = {
            "rollouts": zero,
            "scored_rows": zero,
            "updated_rows": zero + supervised,
            "optimizer_steps": zero + 1,
            "labels": zero + supervised,
            "skipped_prompts": zero,
        }
        return spent, {
            "learnable": alone,
            "signal_count": alone,
            "update_width": alone,
            "repaired": 0 * alone,
        }
    width = signal.rows.sum(-1) + int(strategy.supervised > 0)
    repaired = anchored(signal.groups)
    total = torch.full((width.shape[0],), how.batch * how.group)
    labels = torch.full_like(total, supervised) if supervised else repaired.sum(-1)
    spent = {
        "rollouts": total,
        "scored_rows": total,
        "updated_rows": width.sum(-1),
        "optimizer_steps": torch.ones_like(total),
        "labels": labels,
        "skipped_prompts": (width == 0).sum(-1),
    }
    counted = {
        "learnable": (signal.count > 0).double().mean(-1),
        "signal_count": signal.count.double().mean(-1),
        "update_width": width.double().mean(-1),
        "repaired": repaired.double().mean(-1),
    }
    return spent, counted
