"""`recast rollouts`: train one simulated run and write every rollout, for `recast diagnose`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from workbench.commands.bounds import RATE, SEED, of_field
from workbench.commands.output import progress_bar
from workbench.errors import UserError
from workbench.spec.experiment import load_experiment


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--preset", default="quick", show_default=True, help="World, policy and G.")
@click.option("--strategy", default="grpo", show_default=True, help="Name or composition.")
@click.option("--lr", type=RATE, default=0.003, show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--steps", type=of_field("train.steps"), default=None, help="Optimizer steps of RL.")
@click.option("--batch", type=of_field("train.batch"), default=None, help="Prompts per step.")
@click.option("--group", type=of_field("train.group"), default=None, help="Rollouts per prompt, G.")
@click.option(
    "--all-zero",
    type=of_field("start.all_zero"),
    default=None,
    help="Share of all-zero groups at the start.",
)
@click.option("--task", default=None, help="Task of the world, `mixed` for all of them.")
def rollouts(
    folder: Path,
    preset: str,
    strategy: str,
    lr: float,
    seed: int,
    steps: int | None,
    batch: int | None,
    group: int | None,
    all_zero: float | None,
    task: str | None,
) -> None:
    """Train one run in the simulator and write its rollouts to DIR, one JSON-lines file per step.

    The files are the generic table that `recast diagnose DIR` reads.
    """
    spec = load_experiment(
        preset,
        {
            "strategies": (strategy,),
            "train.steps": steps,
            "train.batch": batch,
            "train.group": group,
            "train.lr": (lr,),
            "train.evaluations": 1,
            "start.all_zero": all_zero,
            "world.task": task,
        },
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"{folder}: no folder to write to ({problem.strerror})") from None
    import torch

    from recast.strategies import parse_strategy
    from sim.general.runs import Runs
    from sim.training.trainer import Hooks, train
    from workbench.diagnosis.logs.write import RolloutLog
    from workbench.execution.tasks import (
        StartTask,
        abreast,
        build_policy,
        make_starts,
        world_of,
    )

    with progress_bar("steps") as show:
        show(0, spec.train.steps, "warm start")
        begun = make_starts(StartTask(spec, (seed,)), lambda _: None)[0]
        world, done = world_of(spec), 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            show(done, spec.train.steps, strategy)

        policy, start, chosen = build_policy(spec), abreast([begun], spec), parse_strategy(strategy)
        train(
            Runs(policy, world, chosen, start, (seed,), spec.train),
            torch.tensor([lr], dtype=torch.float64),
            Hooks(tick, record=partial(RolloutLog(folder).simulated, world)),
            opening=[begun.opening],
        )
    click.echo(f"rollouts: {spec.train.steps} steps in {folder}; recast diagnose {folder}")
