"""`recast calibrate`: which SFT length and temperature give a wanted mix of regimes."""

from __future__ import annotations

import click
import polars as pl

from workbench.commands.output import FORMAT, emit
from workbench.spec import SpecError, load_experiment


@click.command()
@click.option("--preset", default="default", show_default=True, help="World, policy and G.")
@click.option("--all-zero", type=float, default=0.85, show_default=True, help="Share wanted.")
@click.option("--multi-hit", type=float, default=None, help="Share with two hits or more.")
@click.option("--group", type=int, default=None, help="Rollouts per prompt, G.")
@click.option("--noise", type=float, default=None, help="Target noise, the third knob.")
@click.option("--data", default=None, help="Folder of a replay world.")
@FORMAT
def calibrate(
    preset: str,
    all_zero: float,
    multi_hit: float | None,
    group: int | None,
    noise: float | None,
    data: str | None,
    style: str,
) -> None:
    """Find the start whose groups are mixed as asked, e.g. --all-zero .85 --multi-hit .02.

    Columns: prompts (solver: seen by the solver; held_out: validation and test), all_zero,
    single_hit, multi_hit, saturated, temperature of the rollouts, sft_steps.
    """
    changes = {
        "start.all_zero": all_zero,
        "train.group": group,
        "world.noise": noise,
        "world.data": data,
    }
    spec = load_experiment(preset, changes)
    from sim.calibrate import calibrate as solve
    from workbench.work import build_policy, build_world

    try:
        found = solve(
            build_policy(spec),
            build_world(spec),
            all_zero=all_zero,
            several=multi_hit,
            group=spec.train.group,
            max_steps=spec.start.max_steps,
            lr=spec.start.lr,
        )
    except ValueError as problem:
        raise SpecError(str(problem)) from None
    knobs = {"temperature": found.temperature, "sft_steps": found.steps}
    rows = [("solver", found.solved), ("held_out", found.held_out)]
    table = pl.DataFrame([{"prompts": name, **shares, **knobs} for name, shares in rows])
    emit(table, style, f"Regimes of the calibrated start, G = {spec.train.group}, seed 0")
    if style == "table":
        click.echo(
            f"use it with: start.all_zero = {all_zero:g}, "
            f"train.temperature = {found.temperature:.4g}"
        )
