"""The loop: R runs of one strategy, trained together where that cannot be felt.

Runs differ in seed and learning rate. What a run returns is the same bit for bit whichever runs
stand beside it: draws come from its own streams, and everything (the kernel, the general path, the
evaluation) sees one run at a time, in memory of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from recast.strategy import Strategy
from sim.evaluate import Snapshot, snapshot
from sim.general.counts import Counted, Learner
from sim.general.step import Collected
from sim.policies.protocol import Params, Policy
from sim.settings import Training
from sim.training.learner import expected_path, fast_path, general_path
from sim.worlds.world import World

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
    look: Callable[[int, int, Params], None] | None = None,
) -> list[TrainedRun]:
    """Train R runs from `start` `[R, ...]`; seeds has length R, rates `[R]` are Adam's.

    opening: the evaluation of each run's start, when the caller has it already. `progress` is
    called after each step with the number of run-steps done, `watch` after each evaluation with a
    run's index and its new rows; either may raise to stop the training. `record` gets each step,
    from 1, and what was rolled out in it; it needs a single run, which then takes the general path.
    `look` gets a run's index, the step and the parameters that were evaluated, `[1, ...]`.
    Raises ValueError for a target that is not in the catalogue, for several runs to record, and
    where `how` asks for expected updates that do not exist or would have to be recorded.
    """
    _check_targets(world)
    if record is not None and len(seeds) > 1:
        raise ValueError(f"record: expected a single run, got {len(seeds)}")
    fast: Learner | None = None
    if how.updates == "expected":
        if record is not None:
            raise ValueError("record: expected updates roll nothing out")
        fast = expected_path(policy, world, strategy, start, seeds, how)
    elif record is None:
        fast = fast_path(policy, world, strategy, start, seeds, how)
    if fast is None and len(seeds) > 1:
        finished = []
        for run, (seed, rate) in enumerate(zip(seeds, torch.split(rates, 1), strict=True)):

            def watch_one(_: int, fresh: list[Row], run: int = run) -> None:
                watch(run, fresh)

            def look_at_one(_: int, step: int, params: Params, run: int = run) -> None:
                if look is not None:
                    look(run, step, params)

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
                look=look_at_one,
            )
        return finished
    runs = len(seeds)
    if opening is None:
        opening = [open_run(policy, _one(start, run), world, how) for run in range(runs)]
    learner = fast
    if learner is None:
        learner = general_path(policy, world, strategy, start, seeds[0], how, record)
    rows: list[list[Row]] = [[] for _ in seeds]
    before, evaluating = [now.temperature for now in opening], [0.0] * runs
    marks = [Counted()] * runs

    def evaluate(step: int) -> None:
        params = mean.params if mean.count else learner.params
        for run in range(runs):
            began = time.perf_counter()
            now = opening[run]
            if step:
                now = snapshot(
                    policy,
                    _one(params, run),
                    world,
                    how.group,
                    curve_prompts=how.curve_prompts,
                    full=step == how.steps,
                    matching=now.entropy,
                    near=before[run],
                    sampled_at=how.temperature,
                )
                before[run] = now.temperature
            counted, mark = learner.counted(run), marks[run]
            marks[run] = counted
            for split, (found,) in now.found.items():
                for label, values in found.items():
                    rows[run].append(
                        {
                            "split": split,
                            "slice": label,
                            "step": step,
                            **asdict(counted.ledger),
                            **values,
                            "temperature_matched": float(now.temperature),
                            **counted.taught_since(mark),
                        }
                    )
            evaluating[run] += time.perf_counter() - began
        for run in range(runs):
            watch(run, [row for row in rows[run] if row["step"] == step])
            if look is not None:
                look(run, step, _one(params, run))

    mean = _Mean()
    evaluate(0)
    grid = [round(how.steps * (i + 1) / how.evaluations) for i in range(how.evaluations)]
    step = 0
    for end in sorted({point for point in grid if point}):
        while step < end:
            left = 1 - step / how.steps if how.schedule == "linear" else 1.0
            each = how.schedule == "linear" or how.iterate == "mean"
            done = learner.advance(rates * left, step, 1 if each else end - step)
            for _ in range(done):
                progress(runs)
            step += done
            if how.iterate == "mean" and 2 * step > how.steps:
                mean.add(learner.params)
        evaluate(end)
    found = zip(rows, learner.diverged_at, evaluating, strict=True)
    return [TrainedRun(tuple(r), d, seconds) for r, d, seconds in found]


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
