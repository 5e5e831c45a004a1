"""The batched loop: R runs of one strategy in one tensor program, `[R, B, G]`.

Runs differ in seed and learning rate; they never mix, because every tensor carries the run axis
first and every draw comes from the run's own counter-based stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from recast.gate import State
from recast.gate import start as start_state
from recast.ledger import CostLedger
from recast.strategy import Strategy
from sim.evaluate import matched_temperature, mean_entropy, metrics
from sim.optimizer import Adam
from sim.policy import Params, Policy
from sim.step import Training, account, collect, updates
from sim.world import World


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
) -> list[TrainedRun]:
    """Train R runs from `start` `[R, ...]`; seeds has length R, rates `[R]` are Adam's.

    `progress` is called after each step with the number of run-steps done.
    """
    dtype = next(iter(start.values())).dtype
    runs = len(seeds)
    params, optimizer = start, Adam(start)
    entropy = mean_entropy(policy, start, world)
    diverged: list[int | None] = [None] * runs
    ledger = [CostLedger()] * runs
    tally: list[dict[str, Tensor]] = []
    rows: list[list[dict[str, float | int | str | None]]] = [[] for _ in seeds]
    state: State = start_state((runs,), len(world.train)) if strategy.gate != "none" else {}
    grid = {round(how.steps * (i + 1) / how.evaluations) for i in range(how.evaluations)}

    def evaluate(step: int) -> None:
        temperature = matched_temperature(policy, params, world, entropy)
        seen = {k: torch.stack([t[k] for t in tally]).mean(0) for k in tally[0]} if tally else {}
        splits = [("test", world.test)]
        if step in (0, how.steps):
            splits.append(("validation", world.validation))
        for split, prompts in splits:
            found = metrics(policy, params, world, prompts, how.group, temperature)
            for run, slices in enumerate(found):
                for label, values in slices.items():
                    rows[run].append(
                        {
                            "split": split,
                            "slice": label,
                            "step": step,
                            **asdict(ledger[run]),
                            **values,
                            "temperature_matched": float(temperature[run]),
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
        collected = collect(policy, params, world, strategy, seeds, step, how, state)
        state = collected.state
        losses = updates(
            policy, params, start, world, strategy, how, collected, step / max(1, how.steps - 1)
        )
        for loss_of in losses:
            leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
            slopes = torch.autograd.grad(loss_of(leaves).sum(), list(leaves.values()))
            after = optimizer.step(params, dict(zip(leaves, slopes, strict=True)), rates.to(dtype))
            healthy = torch.stack([v.flatten(1).isfinite().all(-1) for v in after.values()]).all(0)
            for run in range(runs):
                if diverged[run] is None and not bool(healthy[run]):
                    diverged[run] = step + 1
            frozen = torch.tensor([d is not None for d in diverged])
            params = {
                name: torch.where(frozen.view(-1, *[1] * (value.ndim - 1)), params[name], value)
                for name, value in after.items()
            }
        spent, counted = account(strategy, collected, len(losses))
        tally.append(counted)
        ledger = [
            CostLedger(**{k: v + int(spent[k][run]) for k, v in asdict(ledger[run]).items()})
            for run in range(runs)
        ]
        progress(runs)
        if step + 1 in grid:
            evaluate(step + 1)
    return [TrainedRun(tuple(r), d) for r, d in zip(rows, diverged, strict=True)]
