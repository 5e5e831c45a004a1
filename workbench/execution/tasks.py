"""The two pieces of work of a sweep, as pure functions that any executor can call anywhere.

A task is plain data, a result too; nothing here reads or writes the store. What a run gives does
not depend on which runs share its task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sim.evaluate import Snapshot
from sim.general.runs import Runs
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.policies.protocol import Params, Policy
from sim.policies.transformer import Transformer
from sim.settings import Iterate
from sim.training.trainer import Hooks, TrainedRun, open_run, train_for
from sim.training.warm_start import StartRequest, warm_start
from sim.worlds.free_decoding import free_world
from sim.worlds.replay import load_replay
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World
from workbench.errors import UserError
from workbench.spec.experiment import Experiment, WorldSpec
from workbench.spec.keys import folder_fingerprint
from workbench.spec.row_names import strategy_of, trained_row, training_of
from workbench.store.arithmetic import arithmetic

ReportStep = Callable[[int], None]
"""Called often with the run-steps done since the last call; it may raise to stop the work."""


@dataclass(frozen=True)
class Start:
    """One warm start: parameters without the run axis, the all-zero share reached, SFT steps, and
    its evaluation, shared by every run that begins here."""

    params: Mapping[str, NDArray[np.float64]]
    all_zero: float
    steps: int
    opening: Snapshot


@dataclass(frozen=True)
class StartTask:
    """Warm-start these seeds of a cell."""

    experiment: Experiment
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class TrainTask:
    """Train one strategy of a cell: run i has rates[i], seeds[i] and starts[i]. Its row, rows[i],
    names the strategy or its averaged weights; two runs that differ in that alone train once."""

    experiment: Experiment
    rows: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    starts: tuple[Start, ...]


Task = StartTask | TrainTask


@dataclass(frozen=True)
class Trained:
    """What one run gave. world: numbers about its world and start; seconds: its share of the
    task's wall time; evaluating: seconds of these that its evaluations took; arithmetic: of the
    process that trained it."""

    rows: tuple[Mapping[str, Any], ...]
    world: Mapping[str, float | None]
    diverged_at: int | None
    seconds: float
    evaluating: float
    arithmetic: Mapping[str, str]


def build_world(spec: Experiment) -> World:
    """The world of an experiment, with its dead ends where decoding is free.

    Raises UserError for data that cannot be used.
    """
    world = _constrained(spec.world)
    if spec.train.decoding == "trie":
        return world
    try:
        return free_world(world)
    except ValueError as problem:
        raise UserError(f"train.decoding: {problem}") from None


def _constrained(world: WorldSpec) -> World:
    if world.kind == "replay":
        if world.data is None:
            raise UserError("world.data: a replay world needs a folder; give --data DIR")
        try:
            return load_replay(Path(world.data), world.seed, world.test_sample, world.category)
        except ValueError as problem:
            raise UserError(str(problem)) from None
    return build_synthetic(
        SyntheticWorld(
            items=world.items,
            task=world.task,
            noise=world.noise,
            heterogeneity=world.heterogeneity,
            drift=world.drift,
            unlearnable=world.unlearnable,
            validation_prompts=world.validation_prompts,
            test_prompts=world.test_prompts,
            seed=world.seed,
        )
    )


def build_policy(spec: Experiment) -> Policy:
    """The policy of an experiment."""
    kinds: dict[str, Callable[[int], Policy]] = {
        "mlp": MLP,
        "tabular": lambda _: Tabular(),
        "loglinear": lambda _: LogLinear(),
        "transformer": Transformer,
    }
    return kinds[spec.policy.kind](spec.policy.width)


_WORLDS: dict[str, World] = {}
_KEPT = 2


def world_of(spec: Experiment) -> World:
    """`build_world`, remembered for the last two worlds of this process."""
    content = folder_fingerprint(spec.world.data) if spec.world.data is not None else ""
    key = spec.world.model_dump_json() + content + spec.train.decoding
    if key not in _WORLDS:
        while len(_WORLDS) >= _KEPT:
            del _WORLDS[next(iter(_WORLDS))]
        _WORLDS[key] = build_world(spec)
    return _WORLDS[key]


def start_request(spec: Experiment) -> StartRequest:
    """The start that an experiment asks for."""
    return StartRequest(
        spec.start.all_zero,
        spec.train.group,
        temperature=spec.train.temperature,
        max_steps=spec.start.max_steps,
        lr=spec.start.lr,
    )


def make_starts(task: StartTask, report: ReportStep) -> list[Start]:
    """The warm starts of a task's seeds. Raises UserError for a request out of reach."""
    spec, world = task.experiment, world_of(task.experiment)
    if spec.train.batch > len(world.train):
        raise UserError(
            f"train.batch: {spec.train.batch} prompts asked for, the world has {len(world.train)}"
        )
    try:
        warm = warm_start(
            build_policy(spec), world, task.seeds, start_request(spec), lambda _: report(0)
        )
    except ValueError as problem:
        raise UserError(str(problem)) from None
    starts, how = [], spec.train
    for i in range(len(task.seeds)):
        # A copy: the last bits of products depend on alignment, which a view has from the whole.
        own = {name: value[i : i + 1].clone() for name, value in warm.params.items()}
        report(0)
        starts.append(
            Start(
                {name: value[0].numpy() for name, value in own.items()},
                float(warm.all_zero[i]),
                int(warm.steps[i]),
                open_run(build_policy(spec), own, world, how),
            )
        )
    return starts


def abreast(starts: Sequence[Start], spec: Experiment) -> Params:
    """Parameters of one run per start, [R, ...], at the experiment's precision."""
    dtype = getattr(torch, spec.train.precision)
    return {
        name: torch.stack([torch.from_numpy(np.array(one.params[name])) for one in starts]).to(
            dtype
        )
        for name in starts[0].params
    }


def make_runs(task: TrainTask, report: ReportStep) -> list[Trained]:
    """Train a task's runs in one tensor program. Raises UserError for what cannot be trained."""
    began = time.perf_counter()
    world = world_of(task.experiment)
    results: dict[int, TrainedRun] = {}
    try:
        for iterates, trainings in _distinct(task).items():
            results |= _trained(task, world, iterates, trainings, report)
    except (ValueError, ImportError) as problem:
        raise UserError(str(problem)) from None
    unknown = dict.fromkeys(("ceiling_pass_at_1", "ceiling_hr_at_10", "ceiling_recall_at_10"))
    ceilings = {**unknown, **world.ceilings}
    seconds = (time.perf_counter() - began) / len(results)
    return [
        Trained(
            results[run].rows,
            {**ceilings, "warm_start_steps": float(begun.steps)},
            results[run].diverged_at,
            seconds,
            results[run].evaluating,
            arithmetic(),
        )
        for run, begun in enumerate(task.starts)
    ]


def _distinct(task: TrainTask) -> dict[tuple[Iterate, ...], list[dict[Iterate, int]]]:
    """The trainings of a task by the iterates at which they are measured: each as the places of its
    runs."""
    alike: dict[tuple[float, int], dict[Iterate, int]] = {}
    for run, row in enumerate(task.rows):
        iterate = training_of(row, task.experiment.train).iterate
        alike.setdefault((task.rates[run], task.seeds[run]), {})[iterate] = run
    found: dict[tuple[Iterate, ...], list[dict[Iterate, int]]] = {}
    for places in alike.values():
        found.setdefault(tuple(sorted(places)), []).append(places)
    return found


def _trained(
    task: TrainTask,
    world: World,
    iterates: tuple[Iterate, ...],
    trainings: Sequence[Mapping[Iterate, int]],
    report: ReportStep,
) -> dict[int, TrainedRun]:
    """What each run of these trainings gave, by its place in the task."""
    spec, row = task.experiment, trained_row(task.rows[0])
    first = [places[iterates[0]] for places in trainings]
    starts = [task.starts[run] for run in first]
    results = train_for(
        Runs(
            build_policy(spec),
            world,
            strategy_of(row),
            abreast(starts, spec),
            tuple(task.seeds[run] for run in first),
            training_of(row, spec.train),
        ),
        torch.tensor([task.rates[run] for run in first], dtype=torch.float64),
        iterates,
        Hooks(lambda steps: report(steps * len(iterates))),
        opening=[start.opening for start in starts],
    )
    return {
        places[iterate]: result
        for iterate, measured in zip(iterates, results, strict=True)
        for places, result in zip(trainings, measured, strict=True)
    }
