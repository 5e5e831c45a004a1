"""The `recast` command. Errors a user can cause are one line and exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import polars as pl

from recast.strategies import STRATEGIES
from workbench.spec import SpecError, load_experiment, preset_names
from workbench.store import Store, StoreError, mark_tuned
from workbench.tables import COST, QUALITY, REGIME, SIGNAL, as_text, edge_warnings, summary

FORMAT = click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    help="How to print the table.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Find out what sparse-hit RL for generative recommenders really buys."""


@cli.command()
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
@click.option("--store", "store_path", default="runs", show_default=True, help="Where runs go.")
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
    store_path: str,
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
    built, keys = run_experiment(spec, store, _progress())
    frame = mark_tuned(store.load().filter(pl.col("run").is_in(keys)), spec.train.tune_metric).sort(
        pl.col("strategy").replace_strict({s: i for i, s in enumerate(spec.strategies)})
    )
    table = summary(frame)
    if style != "table":
        _emit(table, style, "")
        return
    quality = table.select(
        "strategy",
        "slice",
        "lr",
        "seeds",
        "diverged",
        *(c for q in QUALITY for c in (q, f"{q}_low", f"{q}_high")),
    )
    _emit(
        quality, style, "What did each strategy reach? Test split, mean [95% interval] over seeds"
    )
    everyone = table.filter((pl.col("slice") == "all") & (pl.col("strategy") != "start"))
    start = [f"{name}_start" for name in REGIME]
    _emit(
        everyone.select("strategy", *start, *REGIME),
        style,
        f"Group regimes at G = {spec.train.group}: at the start, then at the end",
    )
    _emit(everyone.select("strategy", *SIGNAL, *COST), style, "What taught, and what did it cost?")
    for name, value in built.ceilings.items():
        click.echo(f"{name}: {value:.4f}")
    click.echo(
        "Pass@1 is the expected hit of one sample at T = 1; pass_at_1_matched the same at the"
    )
    click.echo(
        "temperature where mean entropy equals the start's; greedy is greedy decoding's hit."
    )
    click.echo(
        f"Learning rates chosen per strategy by {spec.train.tune_metric} on validation prompts."
    )
    for note in (*built.notes, *edge_warnings(frame, spec.train.lr)):
        click.echo(f"note: {note}")
    click.echo(f"runs: {len(keys)} in {store.root}")


@cli.command()
@FORMAT
def strategies(style: str) -> None:
    """List every strategy: what it does, where it comes from, what an all-zero group gets."""
    rows = [
        {
            "strategy": name,
            "all_zero": s.all_zero,
            "composition": f"repair={s.repair}, select={s.select}, credit={s.credit}, "
            f"supervised={s.supervised:g}, update={s.update}, denominator={s.denominator}",
            "needs": "tie_key" if s.needs_tie_key else "",
            "meaning": s.meaning,
            "source": s.source,
        }
        for name, s in STRATEGIES.items()
    ]
    _emit(pl.DataFrame(rows), style, "Strategies")


@cli.command()
def presets() -> None:
    """List the packaged presets."""
    click.echo("\n".join(preset_names()))


@cli.command()
@click.argument("store_path", metavar="STORE")
@click.argument("target", metavar="FILE")
def export(store_path: str, target: str) -> None:
    """Write every run of STORE into one tidy Parquet or CSV FILE."""
    if not Path(store_path).is_dir():
        raise SpecError(f"store {store_path!r}: no such folder")
    frame = Store(Path(store_path)).load()
    if frame.is_empty():
        raise SpecError(f"store {store_path!r}: holds no runs")
    try:
        if target.endswith(".csv"):
            frame.write_csv(target)
        else:
            frame.write_parquet(target, compression="zstd", compression_level=19)
    except OSError as problem:
        raise SpecError(f"{target}: cannot write ({problem.strerror or problem})") from None
    click.echo(f"{frame['run'].n_unique()} runs in {target}")


def _emit(table: pl.DataFrame, style: str, title: str) -> None:
    if style == "json":
        click.echo(table.write_json())
    elif style == "csv":
        click.echo(table.write_csv(), nl=False)
    else:
        click.echo(as_text(table, title))


def _progress() -> Any:
    """A live line on a terminal, a plain line every tenth elsewhere; on stderr."""
    live, last = sys.stderr.isatty(), -1

    def show(done: int, total: int, text: str) -> None:
        nonlocal last
        tenth = 10 * done // max(total, 1)
        if live:
            bar = "#" * (3 * tenth) + "." * (30 - 3 * tenth)
            end = "\n" if done >= total else ""
            click.echo(
                f"\r[{bar}] {done / max(total, 1):4.0%} {text:<50.50}{end}", nl=False, err=True
            )
        elif tenth != last:
            click.echo(f"{done / max(total, 1):4.0%} {text}", err=True)
        last = tenth

    return show


def main() -> None:
    """Entry point: every foreseeable failure is one line and exit code 2."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted; finished runs are kept, the same command resumes", err=True)
        sys.exit(130)
    except click.ClickException as problem:
        click.echo(f"error: {' '.join(problem.format_message().split())}", err=True)
        sys.exit(2)
    except (SpecError, StoreError) as problem:
        click.echo(f"error: {problem}", err=True)
        sys.exit(2)
