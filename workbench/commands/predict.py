"""`recast predict`: does the workbench predict a language model, and what does it say of a case?"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click
import polars as pl

from workbench.commands.bounds import RANK, Finite
from workbench.commands.log_options import LogOptions, reading_options
from workbench.commands.output import FORMAT, emit, progress_bar
from workbench.commands.predict_case import (
    CaseQuestion,
    GivenStart,
    ask,
    ask_model,
    ask_theory,
    time_left,
)
from workbench.diagnosis.logs.read import files_of
from workbench.errors import UserError
from workbench.execution.forecast import duration
from workbench.spec.metrics import LM_METRICS
from workbench.spec.rungs import ORDER

if TYPE_CHECKING:
    from workbench.studies.prediction.question import PredictedRanking

DEFAULT = (
    *("theory_even", "theory", "theory_counted", "look_alike"),
    *("replay_mlp", "replay_transformer", "lm_0.15M"),
)
WIDEST = 128


@click.command()
@click.option(
    "--data",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Your data folder (MiniOneRec's layout): ranks strategies there. With --study, several.",
)
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A training log instead: ranks strategies by theory, from the hits of its groups.",
)
@click.option("--rung", "rungs", multiple=True, type=click.Choice(ORDER), help="Which experiment.")
@click.option("--metric", type=click.Choice(LM_METRICS), default="area", show_default=True)
@click.option("--strategy", "names", multiple=True, help="Only these rows; repeatable.")
@click.option(
    "--all-zero",
    type=Finite(0.02, 0.999),
    default=None,
    help="Share of groups without a hit at your start. Default: .95, or the study's own.",
)
@click.option(
    "--hit-rate",
    type=Finite(1e-6, 0.9),
    default=None,
    help="Share of hits among your start's rollouts: lets replay_mlp_matched start like it.",
)
@click.option("--seeds", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("predictions"),
    show_default=True,
    help="Runs are kept here; the same command resumes.",
)
@click.option(
    "--start",
    default=None,
    help="Your model, folder or hub name: theory takes its hits, replay_mlp_distilled its draws; "
    "with --study, the model of the rung `pretrained`.",
)
@click.option(
    "--lora", type=click.IntRange(0, RANK), default=0, help="Its LoRA rank; 0 = every weight."
)
@click.option("--device", default="cpu", show_default=True, help="Where it trains: cpu or cuda.")
@click.option(
    "--followed",
    type=click.Path(path_type=Path),
    default=None,
    help="CSV of what was run afterwards (strategy, seed, and the metric or value): how many of "
    "its differences the ranking had in order.",
)
@click.option("--study", is_flag=True, help="Measure decision accuracy anew on every --data.")
@click.option("--time-only", is_flag=True, help="State the time that is left and stop.")
@FORMAT
@reading_options
def predict(
    reading: LogOptions,
    folders: tuple[Path, ...],
    logs: tuple[Path, ...],
    rungs: tuple[str, ...],
    metric: str,
    names: tuple[str, ...],
    all_zero: float | None,
    hit_rate: float | None,
    seeds: int,
    out: Path,
    start: str | None,
    lora: int,
    device: str,
    followed: Path | None,
    study: bool,
    time_only: bool,
    style: str,
) -> None:
    """Which strategy would win on a language model, and how far can that be trusted?

    Alone: the packaged study's decision accuracy by rung and metric. With --data or --log: ranks
    strategies for your own case, with a probability per pair where the rung's record allows one.
    Columns: docs/columns.md. --group: rollouts per prompt, 32 without a log.
    """
    group = 32 if reading.group is None else reading.group
    if not 2 <= group <= WIDEST:
        raise UserError(f"--group {group}: expected 2 to {WIDEST}")
    if followed is not None and (study or not (folders or logs)):
        raise UserError("--followed: it needs a ranking of --log or --data")
    asked = CaseQuestion(names, all_zero, hit_rate, group, seeds, out, time_only, style)
    if study:
        if "pretrained" in rungs and start is None:
            raise UserError("--rung pretrained: give its model with --start")
        given = (start, lora, device) if start is not None else None
        _study(asked, folders, rungs, given)
        return
    if "pretrained" in rungs:
        raise UserError("--rung pretrained: it needs --study")
    if start is not None and not folders:
        raise UserError("--start: give its data with --data DIR")
    if logs and folders:
        raise UserError("--data and --log: give one of them")
    if not logs and not folders:
        _record(style)
        return
    if len(folders) > 1 or len(rungs) > 1:
        raise UserError("one --data and one --rung at a time; several need --study")
    rung = rungs[0] if rungs else _usual(bool(logs), start, hit_rate)
    if logs and rung not in ("theory_counted", "look_alike"):
        raise UserError(
            f"--rung {rung}: a log has no catalogue; expected theory_counted or look_alike"
        )
    if start is not None and rung not in ("theory", "replay_mlp_distilled"):
        raise UserError(f"--start: {rung} asks no model; expected theory or replay_mlp_distilled")
    if rung.startswith("theory") and not logs and start is None:
        raise UserError(
            f"--rung {rung}: it needs the hits of your own model; give its log with --log, or "
            "itself with --start"
        )
    given = (start, lora, device) if start is not None else None
    results = _results(followed, metric)
    found: PredictedRanking | None
    if rung.startswith("theory") and logs:
        found = ask_theory(asked, reading, logs, metric)
    elif rung == "theory":
        found = ask_model(asked, folders[0], given, metric)
    else:
        log = reading.rollouts(files_of(logs)) if logs else None
        found = ask(asked, folders, log, rung, metric, given)
    if results is not None and found is not None:
        _hold_against(found, results, style)


def _usual(logged: bool, start: str | None, hit_rate: float | None) -> str:
    """The rung that is asked where none is named: the best on record of those that make do with
    what is given."""
    if logged:
        return "theory_counted"
    if start is not None:
        return "theory"
    return "replay_mlp" if hit_rate is None else "replay_mlp_matched"


def _record(style: str) -> None:
    """The table of decision accuracy by rung and metric."""
    from workbench.studies.prediction import saved

    table = saved.accuracies()
    if style != "table":
        emit(table, style, "")
        return
    dear = saved.dearest()
    mine = table.filter(dear=dear).with_columns(
        said=pl.when(pl.col("accuracy").is_null())
        .then(pl.format("- ({} pairs)", "pairs"))
        .otherwise(
            pl.format(
                "{} [{}, {}]",
                *(pl.col(c).round(2).cast(pl.Utf8) for c in ("accuracy", "low", "high")),
            )
        )
    )
    wide = mine.pivot("metric", index=["cheap", "seconds"], values="said", maintain_order=True)
    emit(
        wide.with_columns(pl.col("seconds").round(1)),
        style,
        f"Decision accuracy against {dear}: of the pairs that differ there for sure (p < .05 "
        "after Holm), the share ordered alike [95%: strategies and data sets resampled]",
    )
    whole = mine.filter(metric="all").select("cheap", "pairs", "data_sets", "brier", "seconds")
    emit(whole, style, f"Pairs behind it, Brier score of the stated probability; {dear} costs "
         f"{duration(mine['seconds_dear'][0])} of one core per data set")  # fmt: skip
    click.echo(
        f"control, nothing run: the order of {dear} on the other data sets alone has "
        + ", ".join(
            f"{row['accuracy']:.2f} of {row['pairs']} ({row['metric']})"
            for row in saved.elsewhere_accuracies().iter_rows(named=True)
        )
    )


def _study(
    asked: CaseQuestion,
    folders: tuple[Path, ...],
    rungs: tuple[str, ...],
    given: GivenStart,
) -> None:
    """Do every rung on every data set, state times first, write and print what came of it."""
    from workbench.studies.prediction.accuracy import accuracy_table
    from workbench.studies.prediction.language_models import Given
    from workbench.studies.prediction.study import PredictionStudy

    if not folders:
        raise UserError("--study: give its data with --data DIR, repeatable")
    plan = asked.plan(asked.group)
    cases = tuple(asked.case(folder, plan) for folder in folders)
    whole = PredictionStudy(asked.out, cases, plan, Given(*given) if given else None)
    # Language models first: the look-alike and the theory speak of the dearest start that is there.
    last = ORDER.index("look_alike") + 1
    order = (*ORDER[last:][::-1], *ORDER[:last])
    wanted = [rung for rung in order if rung in (rungs or DEFAULT)]
    for rung in wanted:
        click.echo(f"{rung}: {time_left(whole, rung)}; the same command resumes", err=True)
    if asked.time_only:
        return
    with progress_bar("runs") as progress:
        for rung, case in itertools.product(wanted, whole.cases):
            try:
                for _ in whole.do(rung, case, range(asked.seeds), progress):
                    pass
            except ValueError as problem:
                raise UserError(f"{rung} on {case.data.name}: {problem}") from None
    for name, table in (
        ("pairs", whole.pairs()),
        ("costs", whole.costs()),
        ("values", whole.values()),
    ):
        table.write_parquet(asked.out / f"prediction-{name}.parquet")
    for rung, data, table in whole.results():
        table.write_csv(asked.out / f"results-{rung}-{data}.csv")
    emit(accuracy_table(whole.pairs()), asked.style, "Decision accuracy of each rung")


def _results(file: Path | None, metric: str) -> pl.DataFrame | None:
    """What was run afterwards, read before anything is trained."""
    from workbench.studies.prediction.followed import read_results

    return None if file is None else read_results(file, metric)


def _hold_against(found: PredictedRanking, results: pl.DataFrame, style: str) -> None:
    """Say how many differences of the runs that followed the ranking had in order."""
    from workbench.studies.prediction.followed import held_against

    click.echo(held_against(found.pairs, results).text(), err=style != "table")
