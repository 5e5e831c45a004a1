"""`recast calibrate`: which SFT length, temperature and heterogeneity give a wanted mix."""

from __future__ import annotations

from collections.abc import Mapping

import click
import polars as pl

from workbench.commands.bounds import Finite, of_field
from workbench.commands.output import FORMAT, emit
from workbench.errors import UserError
from workbench.spec.experiment import Experiment, change, load_experiment
from workbench.spec.messages import validated

HELD_OUT = 8192
"""Test users of a synthetic world on which a calibrated start is measured, at least."""


@click.command()
@click.option("--preset", default="default", show_default=True, help="World, policy and G.")
@click.option(
    "--all-zero",
    type=of_field("start.all_zero"),
    default=0.85,
    show_default=True,
    help="Share wanted.",
)
@click.option(
    "--two-or-more",
    type=Finite(0, 1),
    default=None,
    help="Share of groups with two hits or more.",
)
@click.option("--group", type=of_field("train.group"), default=None, help="Rollouts per prompt, G.")
@click.option(
    "--noise", type=of_field("world.noise"), default=None, help="Target noise, the third knob."
)
@click.option(
    "--unlearnable",
    type=of_field("world.unlearnable"),
    default=None,
    help="Share of targets that any item may be.",
)
@click.option("--data", default=None, help="Folder of a replay world.")
@FORMAT
def calibrate(
    preset: str,
    all_zero: float,
    two_or_more: float | None,
    group: int | None,
    noise: float | None,
    unlearnable: float | None,
    data: str | None,
    style: str,
) -> None:
    """Find the start whose groups are mixed as asked, e.g. --all-zero .85 --two-or-more .02.

    Knobs: how long SFT goes, the temperature of the rollouts, and how unequal users are in the
    strength of their taste. What was found must hold within a point on held-out users as well.

    Columns: prompts (solver: seen by the solver; held_out: validation and test), all_zero,
    single_hit, multi_hit, saturated, temperature of the rollouts, heterogeneity, sft_steps.
    """
    changes = {
        "start.all_zero": all_zero,
        "train.group": group,
        "world.noise": noise,
        "world.unlearnable": unlearnable,
        "world.data": data,
    }
    spec = load_experiment(preset, changes)
    from sim.training.calibrate import calibrate as solve
    from sim.training.calibrate import not_held_out
    from workbench.execution.tasks import build_policy, build_world, start_request

    synthetic = spec.world.kind == "synthetic"
    if synthetic:
        # A share of rare groups is known to a point only on many users.
        spec = _changed(spec, {"world.test_prompts": max(HELD_OUT, spec.world.test_prompts)})
    try:
        found = solve(
            build_policy(spec),
            build_world(spec),
            start_request(spec),
            several=two_or_more,
            heterogeneity=spec.world.heterogeneity,
            worlds=(lambda h: build_world(_changed(spec, {"world.heterogeneity": h})))
            if synthetic
            else None,
        )
    except ValueError as problem:
        raise UserError(str(problem)) from None
    fault = not_held_out(found, all_zero, two_or_more)
    if fault:
        raise UserError(fault)
    knobs = {
        "temperature": found.temperature,
        "heterogeneity": found.heterogeneity,
        "sft_steps": found.steps,
    }
    rows = [("solver", found.solved), ("held_out", found.held_out)]
    table = pl.DataFrame([{"prompts": name, **shares, **knobs} for name, shares in rows])
    emit(table, style, f"Regimes of the calibrated start, G = {spec.train.group}, seed 0")
    if style == "table":
        click.echo(
            f"use it with: start.all_zero = {all_zero:g}, "
            f"train.temperature = {found.temperature:.4g}, "
            f"world.heterogeneity = {found.heterogeneity:.4g}"
        )


def _changed(spec: Experiment, changes: Mapping[str, float]) -> Experiment:
    return validated(Experiment, change(spec.model_dump(), changes))
