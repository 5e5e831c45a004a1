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
    ask,
    ask_theory,
    case_options,
    hold_against,
    results_of,
    time_left,
)
from workbench.diagnosis.logs.read import files_of
from workbench.errors import UserError
from workbench.execution.forecast import duration
from workbench.spec.rungs import ORDER

if TYPE_CHECKING:
    from workbench.studies.prediction.language_models import Given
    from workbench.studies.prediction.question import PredictedRanking

DEFAULT = (
    *("theory_even", "theory", "theory_counted", "look_alike"),
    *("replay_mlp", "replay_transformer", "lm_0.15M"),
)
WIDEST = 128


@click.command()
@case_options
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
@click.option(
    "--start",
    default=None,
    help="Model of the rung `pretrained`, folder or hub name. (`recast lm predict` asks a model.)",
)
@click.option(
    "--lora", type=click.IntRange(0, RANK), default=0, help="Its LoRA rank; 0 = every weight."
)
@click.option("--device", default="cpu", show_default=True, help="Where it trains: cpu or cuda.")
@click.option("--category", default=None, help="Which one, where a data folder holds several.")
@click.option("--study", is_flag=True, help="Measure decision accuracy anew on every --data.")
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
    category: str | None,
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
    asked = CaseQuestion(names, all_zero, hit_rate, group, seeds, out, time_only, style, category)
    if study:
        if "pretrained" in rungs and start is None:
            raise UserError("--rung pretrained: give its model with --start")
        _study(asked, folders, rungs, _given(start, lora, device))
        return
    if start is not None or "pretrained" in rungs:
        raise UserError(
            "--start and --rung pretrained: they need --study; a model of your own is asked by: "
            "recast lm predict DIR --start MODEL"
        )
    if logs and folders:
        raise UserError("--data and --log: give one of them")
    if not logs and not folders:
        _record(style)
        return
    if len(folders) > 1 or len(rungs) > 1:
        raise UserError("one --data and one --rung at a time; several need --study")
    usual = "replay_mlp" if hit_rate is None else "replay_mlp_matched"
    rung = rungs[0] if rungs else "theory_counted" if logs else usual
    if logs and rung not in ("theory_counted", "look_alike"):
        raise UserError(
            f"--rung {rung}: a log has no catalogue; expected theory_counted or look_alike"
        )
    if rung.startswith("theory") and not logs:
        raise UserError(
            f"--rung {rung}: it needs the hits of your own model; give its log with --log, or the "
            "model to `recast lm predict`"
        )
    results = results_of(followed, metric)
    found: PredictedRanking | None
    if rung.startswith("theory") and logs:
        found = ask_theory(asked, reading, logs, metric)
    else:
        log = reading.rollouts(files_of(logs)) if logs else None
        found = ask(asked, folders, log, rung, metric)
    if results is not None and found is not None:
        hold_against(found, results, style)


def _given(start: str | None, lora: int, device: str) -> Given | None:
    """The start of the pre-trained rung. Raises UserError for a device that is not there."""
    from recast.lm.device import place
    from recast.lm.optional_extra import LMError
    from workbench.studies.prediction.language_models import Given

    try:
        return None if start is None else Given(start, lora, place(device))
    except LMError as problem:
        raise UserError(str(problem)) from None


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
    given: Given | None,
) -> None:
    """Do every rung on every data set, state times first, write and print what came of it."""
    from workbench.studies.prediction.accuracy import accuracy_table
    from workbench.studies.prediction.study import PredictionStudy

    if not folders:
        raise UserError("--study: give its data with --data DIR, repeatable")
    plan = asked.plan(asked.group)
    cases = tuple(asked.case(folder, plan) for folder in folders)
    whole = PredictionStudy(asked.out, cases, plan, given)
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
