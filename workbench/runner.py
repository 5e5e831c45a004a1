"""Run an experiment: build the world, warm-start once, train each strategy, store each run."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from recast.ledger import RunRecord
from recast.strategies import parse_strategy
from sim.evaluate import Snapshot, snapshot
from sim.policy import MLP, Policy, Tabular
from sim.replay import load_replay
from sim.trainer import TrainedRun, Training, train
from sim.warmstart import WarmStart, warm_start
from sim.world import SyntheticWorld, World, build_synthetic
from workbench.spec import Experiment, SpecError
from workbench.store import Store, run_key

Progress = Callable[[int, int, str], None]
"""Called with run-steps done, run-steps in all, and what is going on."""


def build_world(spec: Experiment) -> World:
    """The world of an experiment. Raises SpecError for data that cannot be used."""
    world = spec.world
    if world.kind == "replay":
        if world.data is None:
            raise SpecError("world.data: a replay world needs a folder; give --data DIR")
        try:
            return load_replay(Path(world.data), seed=world.seed)
        except ValueError as problem:
            raise SpecError(str(problem)) from None
    return build_synthetic(
        SyntheticWorld(
            items=world.items,
            noise=world.noise,
            validation_prompts=world.validation_prompts,
            test_prompts=world.test_prompts,
            seed=world.seed,
        )
    )


def build_policy(spec: Experiment) -> Policy:
    """The policy of an experiment."""
    return MLP(spec.policy.width) if spec.policy.kind == "mlp" else Tabular()


def run_config(spec: Experiment, strategy: str, lr: float, seed: int) -> dict[str, Any]:
    """Everything that determines one run, JSON-serialisable."""
    train_spec = spec.train.model_dump(exclude={"lr", "tune_metric"})
    cell = {
        "world_spec": spec.world.model_dump(),
        "policy_spec": spec.policy.model_dump(),
        "start_spec": spec.start.model_dump(),
        "train_spec": train_spec,
    }
    return {
        **cell,
        "cell": run_key(cell)[:8],
        "strategy": strategy,
        "lr": lr,
        "seed": seed,
        "world": spec.world.kind,
        "group": spec.train.group,
    }


def run_experiment(
    spec: Experiment, store: Store, progress: Progress = lambda *_: None
) -> tuple[World, list[str]]:
    """Train what is missing from the store and return the world and the keys of all runs.

    Raises SpecError for a warm start out of reach, and StoreError when the disk refuses.
    """
    torch.set_num_threads(1)
    jobs = {
        run_key(config): config
        for config in (
            run_config(spec, *cell)
            for cell in itertools.product(spec.strategies, spec.train.lr, range(spec.seeds))
        )
    }
    missing = {key: config for key, config in jobs.items() if not store.has(key)}
    world = build_world(spec)
    if not missing:
        return world, list(jobs)
    policy = build_policy(spec)
    total = len(missing) * spec.train.steps
    progress(0, total, "warm start")
    seeds = tuple(range(spec.seeds))
    try:
        warm = warm_start(
            policy,
            world,
            seeds,
            all_zero=spec.start.all_zero,
            group=spec.train.group,
            max_steps=spec.start.max_steps,
            lr=spec.start.lr,
            progress=lambda text: progress(0, total, text),
        )
        if spec.train.batch > len(world.train):
            raise ValueError(
                f"train.batch: {spec.train.batch} prompts asked for, "
                f"the world has {len(world.train)}"
            )
    except ValueError as problem:
        raise SpecError(str(problem)) from None
    progress(0, total, "evaluating the start")
    opening = snapshot(
        policy, warm.params, world, spec.train.group, curve_prompts=spec.train.curve_prompts
    )
    how = Training(**spec.train.model_dump(exclude={"lr", "tune_metric"}))
    batches = [
        batch
        for name, lr in itertools.product(spec.strategies, spec.train.lr)
        if (
            batch := [(k, c) for k, c in missing.items() if c["strategy"] == name and c["lr"] == lr]
        )
    ]
    ceilings = {"ceiling_pass_at_1": None, "ceiling_recall_at_10": None, **world.ceilings}
    done = 0
    with ProcessPoolExecutor(
        max_workers=min(len(batches), os.cpu_count() or 1),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        waiting = {
            pool.submit(
                _train_batch, policy, world, warm, opening, how, [c for _, c in batch]
            ): batch
            for batch in batches
        }
        try:
            for finished in as_completed(waiting):
                batch = waiting[finished]
                for (key, config), result in zip(batch, finished.result(), strict=True):
                    extra = {"warm_start_steps": float(warm.steps[config["seed"]])}
                    store.write(
                        key,
                        RunRecord(config, result.rows, {**ceilings, **extra}, result.diverged_at),
                    )
                done += len(batch) * spec.train.steps
                progress(done, total, f"{batch[0][1]['strategy']} lr {batch[0][1]['lr']:g}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return world, list(jobs)


def _train_batch(
    policy: Policy,
    world: World,
    warm: WarmStart,
    opening: Snapshot,
    how: Training,
    configs: list[dict[str, Any]],
) -> list[TrainedRun]:
    """One tensor program: every seed of one strategy at one learning rate."""
    seeds = tuple(config["seed"] for config in configs)
    return train(
        policy,
        world,
        {name: value[list(seeds)] for name, value in warm.params.items()},
        parse_strategy(configs[0]["strategy"]),
        seeds,
        torch.full((len(seeds),), configs[0]["lr"]),
        how,
        opening=opening.of(seeds),
    )
