"""`recast run` and `recast presets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import polars as pl

from workbench.analysis.summary import (
    edge_warnings,
    matched_warnings,
    over_time,
    start_warnings,
    summary,
)
from workbench.analysis.tuning import mark_tuned
from workbench.commands.bounds import RATE, SPENT, of_field
from workbench.commands.output import (
    EXECUTOR,
    FORMAT,
    SET,
    STORE,
    WORKERS,
    emit,
    progress_bar,
)
from workbench.commands.run_output import DEFINITIONS, print_ceilings, print_results
from workbench.errors import UserError
from workbench.spec.experiment import assignments, load_experiment, preset_names
from workbench.store.runs import Store

if TYPE_CHECKING:
    from workbench.execution.equal_budget import Equal


@click.command()
@click.option("--preset", default=None, help="A packaged preset or a TOML file. Default: default.")
@click.option("--strategy", "strategies", multiple=True, help="Name or composition; repeatable.")
@click.option("--seeds", type=of_field("seeds"), default=None, help="Number of paired seeds.")
@click.option("--steps", type=of_field("train.steps"), default=None, help="Optimizer steps of RL.")
@click.option("--group", type=of_field("train.group"), default=None, help="Rollouts per prompt, G.")
@click.option("--lr", "rates", type=RATE, multiple=True, help="Learning-rate grid; repeatable.")
@click.option(
    "--all-zero",
    type=of_field("start.all_zero"),
    default=None,
    help="Share of all-zero groups at the start.",
)
@click.option("--tune-metric", default=None, help="Validation metric that chooses the rate.")
@click.option("--world", type=click.Choice(["synthetic", "replay"]), default=None)
@click.option("--data", default=None, help="Folder in MiniOneRec's layout, for --world replay.")
@click.option("--category", default=None, help="Which one, where the folder holds several.")
@SET
@EXECUTOR
@WORKERS
@STORE
@click.option("--popularity", is_flag=True, help="Popular and rare targets apart as well.")
@click.option(
    "--equal",
    type=click.Choice(["rollouts", "steps", "updated_rows"]),
    default=None,
    help="Train every strategy until it has spent the same: rollouts, optimizer steps or rows of "
    "the actor's update. Default: as many steps each.",
)
@click.option(
    "--budget",
    type=SPENT,
    default=None,
    help="With --equal: how much per run. Default: what the cheapest spends in train.steps steps.",
)
@click.option("--over-time", "by_step", is_flag=True, help="JSON or CSV: the rows over training.")
@FORMAT
def run(
    preset: str | None,
    strategies: tuple[str, ...],
    seeds: int | None,
    steps: int | None,
    group: int | None,
    rates: tuple[float, ...],
    all_zero: float | None,
    tune_metric: str | None,
    world: str | None,
    data: str | None,
    category: str | None,
    settings: tuple[str, ...],
    executor: str,
    workers: int | None,
    store_path: str,
    popularity: bool,
    equal: str | None,
    budget: int | None,
    by_step: bool,
    style: str,
) -> None:
    """Train strategies side by side and print what each of them reached."""
    if preset is None:
        preset = "replay" if world == "replay" else "default"
    spec = load_experiment(
        preset,
        {
            "strategies": strategies or None,
            "seeds": seeds,
            "train.steps": steps,
            "train.group": group,
            "train.lr": rates or None,
            "train.tune_metric": tune_metric,
            "start.all_zero": all_zero,
            "world.kind": world,
            "world.data": data,
            "world.category": category,
            **assignments(settings),
        },
    )
    from workbench.execution.equal_budget import run_equal
    from workbench.execution.runner import run_experiment

    if budget is not None and equal is None:
        raise UserError("--budget: expected with --equal, which says a budget of what")
    store = Store(Path(store_path)).prepare()
    mode, notes, added = f"{spec.train.steps} steps each", list[str](), pl.DataFrame()
    with progress_bar() as progress:
        if equal is None:
            built, keys = run_experiment(spec, store, progress, executor, workers)
            frame = mark_tuned(store.load(keys), spec.train.tune_metric)
        else:
            built, same = run_equal(spec, store, equal, budget, progress, executor, workers)
            frame, keys, mode = same.frame, same.keys, same.title()
            notes, added = same.notes(), _equal_columns(same)
    frame = frame.sort(
        pl.col("strategy").replace_strict({s: i for i, s in enumerate(spec.strategies)})
    )
    history = over_time(frame)
    table = summary(frame, popularity)
    if not added.is_empty():
        table = table.join(added, on="strategy", how="left", maintain_order="left")
    if style != "table":
        emit(history if by_step else table, style, "")
        return
    print_results(table, history, spec, mode)
    if not added.is_empty():
        emit(added, style, f"What was equal? Runs {mode}")
    print_ceilings(built.ceilings_by_slice())
    click.echo(DEFINITIONS)
    if table["slice"].n_unique() > 1:
        click.echo("Every metric of every slice: --format csv.")
    click.echo(
        f"Learning rates chosen per strategy by {spec.train.tune_metric} on validation prompts."
    )
    warnings = start_warnings(frame, spec.start.all_zero) + edge_warnings(frame, spec.train.lr)
    warnings += matched_warnings(table)
    for note in (*notes, *built.notes, *warnings):
        click.echo(f"note: {note}")
    click.echo(f"runs: {len(keys)} in {store.root}")


def _equal_columns(same: Equal) -> pl.DataFrame:
    """strategy, equal (the axis), budget, steps of training, spent, share_of_budget."""
    spent = same.spent()
    return pl.DataFrame(
        [
            {
                "strategy": name,
                "equal": same.axis,
                "budget": round(same.budget),
                "steps": steps,
                "spent": round(spent[name]),
                "share_of_budget": None if name in same.free else spent[name] / same.budget,
            }
            for name, steps in same.steps.items()
        ],
        schema_overrides={"share_of_budget": pl.Float64},
    )


@click.command()
def presets() -> None:
    """List the packaged presets."""
    click.echo("\n".join(preset_names()))
