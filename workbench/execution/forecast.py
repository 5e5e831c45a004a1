"""How long a sweep will take: a few real steps are timed (processor time) and scaled up."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import torch

from sim.evaluate import Snapshot
from workbench.errors import UserError
from workbench.execution.runner import batches
from workbench.execution.tasks import (
    Start,
    StartTask,
    TrainTask,
    build_policy,
    make_runs,
    make_starts,
    world_of,
)
from workbench.execution.warm_starts import Starts
from workbench.spec.experiment import Experiment, change
from workbench.spec.messages import validated
from workbench.spec.row_names import trained_row
from workbench.spec.sweep import Run
from workbench.store.runs import Store

KINDS = 8
"""Most kinds of batches that are timed; the others are taken to cost their mean."""

TYPICAL_START_STEPS = 200
"""Supervised steps assumed per warm start: how many it takes is only known afterwards."""

_FEW, _MORE = 1, 4


@dataclass(frozen=True)
class Forecast:
    """Seconds of one core for training and for warm starts; timed: kinds of batches measured, of
    how many; starts: warm starts that are not kept yet."""

    training: float
    starting: float
    timed: int
    kinds: int
    starts: int

    def text(self, workers: int) -> str:
        """One line. The work is taken to spread evenly over the workers."""
        total = (self.training + self.starting) / workers
        return (
            f"about {duration(total)} on {workers} workers with a core each: training "
            f"{duration(self.training)} and {self.starts} warm starts {duration(self.starting)} of "
            f"one core ({self.timed} of {self.kinds} kinds of batches timed just now; warm starts "
            f"taken to need {TYPICAL_START_STEPS} steps)"
        )


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(missing: list[Run], store: Store, workers: int) -> Forecast:
    """Time a step and an evaluation of at most `KINDS` kinds of batches, from untrained policies.

    A kind is a cell and a strategy, its averaged weights included. Raises UserError for a world
    that cannot be built.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parts = batches(missing, workers)
        kinds: dict[tuple[str, str], list[Run]] = {}
        for part in parts:
            kinds.setdefault(_kind(part[0]), part)
        stride = -(-len(kinds) // KINDS)
        timed = {kind: _training(kinds[kind]) for kind in list(kinds)[::stride]}
        counts = Counter(map(_kind, missing))
        mean = sum(timed.values()) / len(timed)
        training = sum(timed.get(kind, mean) * count for kind, count in counts.items())
        held = Starts(store.root)
        lacking = {run.start: run for run in missing if not held.has(run.start)}
        step = _start_step(next(iter(lacking.values())).experiment) if lacking else 0.0
        starting = len(lacking) * step * TYPICAL_START_STEPS
        return Forecast(training, starting, len(timed), len(kinds), len(lacking))
    finally:
        torch.set_num_threads(threads)


def _kind(run: Run) -> tuple[str, str]:
    return run.config["cell"], trained_row(run.strategy)


def _training(part: list[Run]) -> float:
    """Seconds of one run of this kind, from two short trainings of the whole batch."""
    spec, seeds = part[0].experiment, tuple(run.seed for run in part)
    world = world_of(spec)
    fresh = build_policy(spec).init(
        world.catalogue, world.sft.context.shape[1], seeds, torch.float64
    )
    unopened = Snapshot({}, torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    starts = tuple(
        Start({name: value[i].numpy() for name, value in fresh.items()}, 1.0, 0, unopened)
        for i in range(len(part))
    )
    rows, rates = tuple(run.strategy for run in part), tuple(run.lr for run in part)

    def seconds(steps: int) -> float:
        short = _with(spec, {"train.steps": steps, "train.evaluations": 1})
        began = time.process_time()
        make_runs(TrainTask(short, rows, rates, seeds, starts), lambda _: None)
        return time.process_time() - began

    if spec.train.kernel == "compiled":
        seconds(_FEW)  # the first step of a process compiles
    few, more = seconds(_FEW), seconds(_MORE)
    step = max(more - few, 0.0) / (_MORE - _FEW)
    # The short trainings evaluate once, at their end and in full; a point of the curve is cheaper.
    evaluation = max(few - _FEW * step, 0.0)
    sample = spec.train.curve_prompts or len(world.test)
    curve = min(1.0, sample / (sample + len(world.test) + len(world.validation)))
    whole = spec.train.steps * step + (1 + (spec.train.evaluations - 1) * curve) * evaluation
    return whole / len(part)


def _start_step(spec: Experiment) -> float:
    """Seconds of one supervised step of a warm start of one seed."""
    short = _with(spec, {"start.max_steps": _MORE})
    world_of(short)  # built once per process, not once per step
    began = time.process_time()
    try:
        (start,) = make_starts(StartTask(short, (0,)), lambda _: None)
    except UserError:
        return (time.process_time() - began) / _MORE
    return (time.process_time() - began) / max(start.steps, 1)


def _with(spec: Experiment, changes: dict[str, int]) -> Experiment:
    return validated(Experiment, change(spec.model_dump(), changes))
