"""`recast run` and `recast presets`."""

from __future__ import annotations

from pathlib import Path

import click
import polars as pl

from workbench.commands.output import EXECUTOR, FORMAT, STORE, WORKERS, emit, progress_bar
from workbench.spec import load_experiment, preset_names
from workbench.store import Store
from workbench.tables import COST, REGIME, SIGNAL, edge_warnings, summary
from workbench.tuning import mark_tuned

DEFINITIONS = """\
pass_at_1: expected hit of one sample at T = 1; pass_at_1_matched: the same at the temperature at
which mean entropy equals the start's; greedy: hit of greedy decoding; pass_at_32: chance of a hit
in 32 samples; hr_at_k: a target among the k most probable items, which is recall@k where each
prompt has one target."""


@click.command()
@click.option("--preset", default=None, help="A packaged preset or a TOML file. Default: default.")
@click.option("--strategy", "strategies", multiple=True, help="Name or composition; repeatable.")
@click.option("--seeds", type=int, default=None, help="Number of paired seeds.")
@click.option("--steps", type=int, default=None, help="Optimizer steps of RL.")
@click.option("--group", type=int, default=None, help="Rollouts per prompt, G.")
@click.option("--lr", "rates", type=float, multiple=True, help="Learning-rate grid; repeatable.")
@click.option("--all-zero", type=float, default=None, help="Share of all-zero groups at the start.")
@click.option("--tune-metric", default=None, help="Validation metric that chooses the rate.")
@click.option("--world", type=click.Choice(["synthetic", "replay"]), default=None)
@click.option("--data", default=None, help="Folder in MiniOneRec's layout, for --world replay.")
@EXECUTOR
@WORKERS
@STORE
@click.option("--popularity", is_flag=True, help="Popular and rare targets apart as well.")
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
    executor: str,
    workers: int | None,
    store_path: str,
    popularity: bool,
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
        },
    )
    from workbench.runner import run_experiment

    store = Store(Path(store_path)).prepare()
    with progress_bar() as progress:
        built, keys = run_experiment(spec, store, progress, executor, workers)
    frame = mark_tuned(store.load(keys), spec.train.tune_metric).sort(
        pl.col("strategy").replace_strict({s: i for i, s in enumerate(spec.strategies)})
    )
    table = summary(frame, popularity)
    if style != "table":
        emit(table, style, "")
        return
    labels = ["strategy", "slice"] if table["slice"].n_unique() > 1 else ["strategy"]
    tuned = [*labels, "lr", "seeds", *(["diverged"] if table["diverged"].sum() else [])]
    emit(
        table.select(*tuned, *_with_interval("pass_at_1", "pass_at_1_matched", "greedy")),
        style,
        f"How sharp? Mean [95% interval] over seeds, {spec.train.group} rollouts per prompt",
    )
    several = not table["recall_at_10"].equals(table["hr_at_10"])
    wide = ["hr_at_1", "hr_at_5", "hr_at_10", *(["recall_at_10"] if several else [])]
    emit(
        table.select(*labels, *_with_interval(*wide, "ndcg_at_10", "pass_at_32", "entropy")),
        style,
        "How wide? The most probable items, 32 samples, entropy in nats",
    )
    everyone = table.filter((pl.col("slice") == "all") & (pl.col("strategy") != "start"))
    start = [f"{name}_start" for name in REGIME]
    emit(
        everyone.select("strategy", *start, *REGIME),
        style,
        f"Group regimes at G = {spec.train.group}: at the start, then at the end",
    )
    emit(everyone.select("strategy", *SIGNAL, *COST), style, "What taught, and what did it cost?")
    bounds = [
        {"slice": part, **found} for part, found in built.ceilings_by_slice().items() if found
    ]
    if bounds:
        emit(pl.DataFrame(bounds), style, "What no policy can exceed, as targets are noisy")
        click.echo("truth_pass_at_1: the true preferences sampled at T = 1, a level, not a ceiling")
    click.echo(DEFINITIONS)
    click.echo(
        f"Learning rates chosen per strategy by {spec.train.tune_metric} on validation prompts."
    )
    for note in (*built.notes, *edge_warnings(frame, spec.train.lr)):
        click.echo(f"note: {note}")
    click.echo(f"runs: {len(keys)} in {store.root}")


def _with_interval(*metrics: str) -> list[str]:
    return [c for m in metrics for c in (m, f"{m}_low", f"{m}_high")]


@click.command()
def presets() -> None:
    """List the packaged presets."""
    click.echo("\n".join(preset_names()))
