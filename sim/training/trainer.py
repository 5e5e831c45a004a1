"""The loop: R runs of one strategy, trained together where that cannot be felt.

Runs differ in seed and learning rate. What a run returns is the same bit for bit whichever runs
stand beside it: draws come from its own streams, the fast path does matrix products run by run
(`sim.policies.nodes`) and only elementwise work together, and everything else (the general path
through autograd, the evaluation) sees one run at a time, in memory of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from recast.ledger import CostLedger
from recast.stage import State
from recast.strategy import Strategy
from sim.evaluate import Snapshot, snapshot
from sim.policies.protocol import Params, Policy
from sim.shortcuts.choose import FastPath
from sim.shortcuts.expected import ExpectedPath
from sim.training.optimizer import Adam
from sim.training.step import Collected, Training, account, collect, updates
from sim.worlds.world import World

TAUGHT = ("learnable", "signal_count", "update_width", "repaired")
"""What groups taught, mean over the steps since the last evaluation; None where there were none."""

LARGEST = 1e15
"""A parameter beyond this, or not a number, has diverged."""

Row = dict[str, float | int | str | None]


@dataclass(frozen=True)
class TrainedRun:
    """rows: one mapping per (evaluation, split, slice). diverged_at: the step at which a
    parameter became NaN or larger than `LARGEST`; None for a healthy run. A diverged run is stopped
    there: it spends nothing more, and its later rows repeat the last healthy parameters.
    evaluating: wall seconds of its evaluations, the opening one excluded; no result."""

    rows: tuple[Row, ...]
    diverged_at: int | None
    evaluating: float = field(default=0.0, compare=False)


def train(
    policy: Policy,
    world: World,
    start: Params,
    strategy: Strategy,
    seeds: tuple[int, ...],
    rates: Tensor,
    how: Training,
    progress: Callable[[int], None] = lambda _: None,
    watch: Callable[[int, list[Row]], None] = lambda *_: None,
    opening: Sequence[Snapshot] | None = None,
    record: Callable[[int, Collected], None] | None = None,
) -> list[TrainedRun]:
    """Train R runs from `start` `[R, ...]`; seeds has length R, rates `[R]` are Adam's.

    opening: the evaluation of each run's start, when the caller has it already. `progress` is
    called after each step with the number of run-steps done, `watch` after each evaluation with a
    run's index and its new rows; either may raise to stop the training. `record` gets each step,
    from 1, and what was rolled out in it; it needs a single run, which then takes the general path.
    Raises ValueError for a target that is not in the catalogue, for several runs to record, and
    where `how` asks for expected updates that do not exist or would have to be recorded.
    """
    _check_targets(world)
    if record is not None and len(seeds) > 1:
        raise ValueError(f"record: expected a single run, got {len(seeds)}")
    fast: FastPath | ExpectedPath | None
    if how.updates == "expected":
        if record is not None:
            raise ValueError("record: expected updates roll nothing out")
        fast = ExpectedPath(policy, world, strategy, start, seeds, how)
    else:
        fast = None if record else FastPath.of(policy, world, strategy, start, seeds, how)
    if fast is None and len(seeds) > 1:
        finished = []
        for run, (seed, rate) in enumerate(zip(seeds, torch.split(rates, 1), strict=True)):

            def watch_one(_: int, fresh: list[Row], run: int = run) -> None:
                watch(run, fresh)

            alone = _one(start, run)
            finished += train(
                policy,
                world,
                alone,
                strategy,
                (seed,),
                rate,
                how,
                progress,
                watch_one,
                None if opening is None else opening[run : run + 1],
            )
        return finished
    dtype = next(iter(start.values())).dtype
    runs = len(seeds)
    params, optimizer = start, Adam(start, how.kernel)
    if opening is None:
        opening = [open_run(policy, _one(start, run), world, how) for run in range(runs)]
    diverged: list[int | None] = [None] * runs
    spending, teaching = Totals(runs), Totals(runs)
    rows: list[list[Row]] = [[] for _ in seeds]
    state: State = strategy.start((runs,), len(world.train))
    grid = {round(how.steps * (i + 1) / how.evaluations) for i in range(how.evaluations)}
    before, evaluating = [now.temperature for now in opening], [0.0] * runs

    mean = _Mean()

    def evaluate(step: int) -> None:
        for run in range(runs):
            began = time.perf_counter()
            now = opening[run]
            if step:
                now = snapshot(
                    policy,
                    _one(mean.params if mean.count else params, run),
                    world,
                    how.group,
                    curve_prompts=how.curve_prompts,
                    full=step == how.steps,
                    matching=now.entropy,
                    near=before[run],
                    sampled_at=how.temperature,
                )
                before[run] = now.temperature
            for split, (found,) in now.found.items():
                for label, values in found.items():
                    rows[run].append(
                        {
                            "split": split,
                            "slice": label,
                            "step": step,
                            **asdict(CostLedger(**spending.sums(run))),
                            **values,
                            "temperature_matched": float(now.temperature),
                            **dict.fromkeys(TAUGHT),
                            **teaching.means(run),
                        }
                    )
            evaluating[run] += time.perf_counter() - began
        teaching.clear()
        for run in range(runs):
            watch(run, [row for row in rows[run] if row["step"] == step])

    def move(grads: Params, step: int) -> None:
        """One optimizer step of the runs that are still going."""
        nonlocal params
        left = 1 - step / how.steps if how.schedule == "linear" else 1.0
        after = optimizer.step(params, grads, rates.to(dtype) * left)
        # NaN compares false. Beyond the limit a product of parameters may overflow unseen.
        ends = [torch.stack(v.flatten(1).aminmax(dim=1)).abs() for v in after.values()]
        healthy = (torch.cat(ends) <= LARGEST).all(0)
        for run in (~healthy).nonzero().view(-1).tolist():
            if diverged[run] is None:
                diverged[run] = step + 1
        if any(diverged):
            frozen = torch.tensor([d is not None for d in diverged])
            after = {
                name: torch.where(frozen.view(-1, *[1] * (value.ndim - 1)), params[name], value)
                for name, value in after.items()
            }
        params = after

    evaluate(0)
    for step in range(how.steps):
        going = torch.tensor([d is None for d in diverged])
        if fast is not None:
            update = fast.step(params, step)
            move(update.grads, step)
            spent, counted = update.spent, update.counted
        elif bool(going.all()):
            collected = collect(policy, params, world, strategy, seeds, step, how, state)
            state = collected.state
            if record is not None:
                record(step + 1, collected)
            losses = updates(
                policy, params, start, world, strategy, how, collected, step / max(1, how.steps - 1)
            )
            for loss_of in losses:
                leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
                slopes = torch.autograd.grad(loss_of(leaves).sum(), list(leaves.values()))
                move(dict(zip(leaves, slopes, strict=True)), step)
            spent, counted = account(strategy, collected, len(losses))
        if how.iterate == "mean" and 2 * (step + 1) > how.steps:
            mean.add(params)
        spending.add(spent, going)
        teaching.add(counted, going)
        progress(runs)
        if step + 1 in grid:
            evaluate(step + 1)
    found = zip(rows, diverged, evaluating, strict=True)
    return [TrainedRun(tuple(r), d, seconds) for r, d, seconds in found]


def open_run(policy: Policy, start: Params, world: World, how: Training) -> Snapshot:
    """The evaluation of one run's start; parameters with a run axis of one."""
    return snapshot(
        policy,
        start,
        world,
        how.group,
        curve_prompts=how.curve_prompts,
        sampled_at=how.temperature,
    )


class _Mean:
    """Running mean of parameters."""

    def __init__(self) -> None:
        self.params: Params = {}
        self.count = 0

    def add(self, params: Params) -> None:
        """Count one more iterate."""
        self.count += 1
        if self.count == 1:
            self.params = {name: value.clone() for name, value in params.items()}
        for name, value in params.items():
            self.params[name].lerp_(value, 1 / self.count)


class Totals:
    """Running sums of named counts, run by run; runs that have stopped are left out."""

    def __init__(self, runs: int) -> None:
        self._sums: dict[str, Tensor] = {}
        self._added = torch.zeros(runs, dtype=torch.int64)

    def add(self, counts: dict[str, Tensor], going: Tensor) -> None:
        """counts `[R]` by name; going `[R]` bool."""
        self._added = self._added + going
        for name, value in counts.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value * going

    def sums(self, run: int) -> dict[str, int]:
        """The sums of one run."""
        return {name: round(value[run].item()) for name, value in self._sums.items()}

    def means(self, run: int) -> dict[str, float]:
        """The means of one run; empty when nothing was added."""
        added = int(self._added[run])
        return {name: float(value[run]) / added for name, value in self._sums.items() if added}

    def clear(self) -> None:
        """Forget everything."""
        self._sums.clear()
        self._added = torch.zeros_like(self._added)


def _check_targets(world: World) -> None:
    last = world.catalogue.items - 1
    for split in (world.train, world.validation, world.test):
        stray = split.target[(split.target < 0) | (split.target > last)]
        if len(stray):
            raise ValueError(
                f"target {int(stray[0])} is not in the catalogue; expected an item in 0..{last}"
            )


def _one(params: Params, run: int) -> Params:
    """The parameters of one run in memory of their own: products depend on alignment."""
    return {name: value[run : run + 1].clone() for name, value in params.items()}
