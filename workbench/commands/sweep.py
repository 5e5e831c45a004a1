"""`recast sweep` and `recast sweeps`."""

from __future__ import annotations

from pathlib import Path

import click
import polars as pl

from workbench.analysis.summary import summary
from workbench.analysis.tuning import edge, mark_tuned, tried
from workbench.commands.bounds import of_field
from workbench.commands.dry_run import forecast, slots
from workbench.commands.output import (
    EXECUTOR,
    FORMAT,
    SET,
    STORE,
    WORKERS,
    emit,
    progress_bar,
)
from workbench.errors import UserError
from workbench.plurals import number_of
from workbench.spec.experiment import assignments
from workbench.spec.metrics import COMPARED, UNORDERED
from workbench.spec.sweep import Sweep, Tune, load_sweep, sweep_names
from workbench.store.runs import Store


@click.command()
@click.argument("source", metavar="SWEEP")
@click.option("--strategy", "strategies", multiple=True, help="Name or composition; repeatable.")
@click.option("--seeds", type=of_field("seeds"), default=None, help="Number of paired seeds.")
@click.option("--steps", type=of_field("train.steps"), default=None, help="Optimizer steps of RL.")
@click.option("--data", default=None, help="Folder in MiniOneRec's layout, for a replay world.")
@click.option(
    "--tune/--no-tune",
    default=None,
    help="The fair comparison: each strategy and cell at its own best learning rate, chosen on "
    "validation. Default: as the sweep says.",
)
@click.option("--dry-run", is_flag=True, help="Say how many runs, and about how long; train none.")
@click.option(
    "--show",
    type=click.Choice(["results", "tuning", "runs"]),
    default="results",
    help="Which table to print: results per cell, every rate tried, or the runs.",
)
@SET
@EXECUTOR
@WORKERS
@STORE
@FORMAT
def sweep(
    source: str,
    strategies: tuple[str, ...],
    seeds: int | None,
    steps: int | None,
    data: str | None,
    tune: bool | None,
    dry_run: bool,
    show: str,
    settings: tuple[str, ...],
    executor: str,
    workers: int | None,
    store_path: str,
    style: str,
) -> None:
    """Run what is missing of SWEEP, a packaged sweep's name or a TOML file."""
    changes = assignments(settings)
    plan = load_sweep(
        source,
        {
            "strategies": strategies or None,
            "seeds": seeds,
            "train.steps": steps,
            "world.data": data,
            **changes,
        },
    )
    for field in changes:
        if field in plan.grid:
            raise UserError(f"--set {field}: the sweep's grid varies it; expected another field")
    if tune is not None:
        plan = plan.model_copy(update={"tune": (plan.tune or Tune()) if tune else None})
    if dry_run:
        _dry_run(plan, Path(store_path), executor, workers, show, style)
        return
    from workbench.execution.runner import run_sweep

    store = Store(Path(store_path)).prepare()
    with progress_bar() as progress:
        outcome = run_sweep(plan, store, progress, executor, workers)
    keys = [key for key in outcome.keys if key not in outcome.failures]
    if keys:
        frame = store.load(keys)
        _print(plan, frame, show, style)
        if style == "table":
            click.echo(f"runs: {len(keys)} in {store.root}, {outcome.trained} trained just now")
    if outcome.failures:
        raise UserError(
            f"{len(outcome.failures):,} of {number_of(len(outcome.keys), 'run')} failed: "
            f"{outcome.first_failure()}"
        )


def results(plan: Sweep, frame: pl.DataFrame) -> pl.DataFrame:
    """One row per (cell, strategy, slice), and per rate where the sweep does not tune: the fields
    in which cells differ, then `workbench.analysis.summary.summary` on the test split."""
    if plan.tune:
        frame = mark_tuned(frame, plan.tune.metric)
        parts = ["cell"]
    else:
        frame = frame.with_columns(tuned=True)
        parts = ["cell", "lr"]
    tables = []
    for _, cell in frame.group_by(parts, maintain_order=True):
        fields = [pl.lit(cell[field][0]).alias(field) for field in plan.varying()]
        table = summary(cell).filter(pl.col("strategy") != "start")
        tables.append(table.select(*fields, pl.all()))
    whole = pl.concat(tables, how="diagonal_relaxed")
    order = {name: i for i, name in enumerate(frame["strategy"].unique(maintain_order=True))}
    order |= {name: i for i, name in enumerate(plan.strategies)}
    place = pl.col("strategy").replace_strict(order, return_dtype=pl.Int64)
    return whole.sort(*plan.varying(), place, "lr", maintain_order=True)


def _print(plan: Sweep, frame: pl.DataFrame, show: str, style: str) -> None:
    if show == "runs":
        columns = ["run", "cell", *plan.varying(), "strategy", "lr", "seed"]
        emit(frame.select(columns).unique(maintain_order=True), style, "Runs")
        return
    if show == "tuning":
        rule = plan.tune or Tune(lr=plan.train.lr, metric=plan.train.tune_metric)
        names = frame.select("cell", *plan.varying()).unique(maintain_order=True)
        table = names.join(tried(frame, rule.metric, rule.split), on="cell", maintain_order="left")
        emit(table, style, f"Which rates were tried? Mean {rule.metric} on {rule.split} prompts")
        return
    table = results(plan, frame)
    if style != "table":
        emit(table, style, "")
        return
    wide = table.select(
        *plan.varying(),
        "strategy",
        "slice",
        "lr",
        "seeds",
        "diverged",
        *(c for q in (*COMPARED, *UNORDERED) for c in (q, f"{q}_low", f"{q}_high")),
    )
    emit(wide, style, f"{plan.name}: test split, mean [95% interval] over seeds")
    if plan.tune:
        click.echo(
            f"Learning rates chosen per strategy and cell by {plan.tune.metric} on validation "
            "prompts; --show tuning prints every rate tried."
        )
        table = tried(frame, plan.tune.metric)
        choices = table.group_by("cell", "strategy").agg(
            "lr", pl.col("lr").filter("chosen").first().alias("best")
        )
        there = [
            name
            for name, rates, best in choices.select("strategy", "lr", "best").iter_rows()
            if edge(rates, best)
        ]
        if there:
            click.echo(
                f"note: the chosen rate is on the edge of its grid in {len(there)} of "
                f"{choices.height} choices: {', '.join(sorted(set(there)))}"
            )
    else:
        click.echo("note: rates are not tuned; --tune gives each strategy its own best rate")


def _dry_run(
    plan: Sweep, folder: Path, executor: str, workers: int | None, show: str, style: str
) -> None:
    store = Store(folder)
    if show == "runs" or style != "table":
        rows = [
            {
                "run": run.key,
                "cell": run.config["cell"],
                "strategy": run.strategy,
                "lr": run.lr,
                "seed": run.seed,
                "stored": store.has(run.key),
            }
            for run in plan.runs()
        ]
        emit(pl.DataFrame(rows), style, "Runs")
        return
    forecast(plan, store, slots(executor, workers))


@click.command()
def sweeps() -> None:
    """List the packaged sweeps."""
    for name in sweep_names():
        plan = load_sweep(name)
        size = (
            number_of(len(plan.runs()), "run")
            if plan.world.data or plan.world.kind != "replay"
            else ""
        )
        click.echo(f"{name}: {', '.join(plan.strategies)}; {size or 'needs --data DIR'}")
