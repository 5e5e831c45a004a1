"""`recast predict`: does the workbench predict a language model, and what does it say of a case?"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import polars as pl

from workbench.commands.bounds import RANK, Finite
from workbench.commands.log_options import LogOptions, reading_options
from workbench.commands.output import FORMAT, emit, progress_bar
from workbench.diagnosis.logs.read import files_of
from workbench.errors import UserError
from workbench.execution.forecast import duration
from workbench.spec.metrics import LM_METRICS
from workbench.spec.rungs import ORDER

if TYPE_CHECKING:
    from workbench.diagnosis.diagnosis import Diagnosis
    from workbench.studies.prediction.protocol import Case, PredictionPlan, Rung
    from workbench.studies.prediction.question import PredictedRanking
    from workbench.studies.prediction.study import PredictionStudy

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
@click.option("--start", default=None, help="Model of the rung `pretrained`: folder or hub name.")
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
    asked = _Asked(names, all_zero, hit_rate, group, seeds, out, time_only, style)
    if study:
        if "pretrained" in rungs and start is None:
            raise UserError("--rung pretrained: give its model with --start")
        given = (start, lora, device) if start is not None else None
        _study(asked, folders, rungs, given)
        return
    if start is not None or "pretrained" in rungs:
        raise UserError("--start and --rung pretrained: they need --study")
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
            f"--rung {rung}: it needs the hits of your own model; give its log with --log"
        )
    results = _results(followed, metric)
    found: PredictedRanking | None
    if rung.startswith("theory"):
        found = _ask_theory(asked, reading, logs, metric)
    else:
        log = reading.rollouts(files_of(logs)) if logs else None
        found = _ask(asked, folders, log, rung, metric)
    if results is not None and found is not None:
        _hold_against(found, results, style)


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


@dataclass(frozen=True)
class _Asked:
    """What is trained for an answer and where it is kept, as the options of these names say."""

    names: tuple[str, ...]
    all_zero: float | None
    hit_rate: float | None
    group: int
    seeds: int
    out: Path
    time_only: bool
    style: str

    def plan(self, group: int) -> PredictionPlan:
        """The strategies that were asked for, or the packaged ones. Raises UserError."""
        from recast.strategies import parse_strategy
        from workbench.studies.prediction.protocol import START, STRATEGIES, PredictionPlan

        for name in self.names:
            try:
                parse_strategy(name)
            except ValueError as problem:
                raise UserError(f"--strategy: {problem}") from None
        chosen = tuple(dict.fromkeys(name for name in self.names if name != START)) or STRATEGIES
        if len(chosen) < 2:
            raise UserError("--strategy: expected two or more, or none for the packaged rows")
        return PredictionPlan(group=group, seeds=self.seeds, strategies=chosen)

    def case(self, folder: Path, plan: PredictionPlan) -> Case:
        """A data folder with the start that its policies get. Raises UserError."""
        from recast.lm.dataset import load_data
        from recast.lm.optional_extra import LMError
        from workbench.studies.prediction.protocol import ALL_ZERO, USUAL, case_of

        try:
            data = load_data(folder)
        except LMError as problem:
            raise UserError(str(problem)) from None
        own = ALL_ZERO.get(data.name, USUAL)
        return case_of(data, plan, own if self.all_zero is None else self.all_zero, self.hit_rate)


def _study(
    asked: _Asked,
    folders: tuple[Path, ...],
    rungs: tuple[str, ...],
    given: tuple[str, int, str] | None,
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
        click.echo(f"{rung}: {_time(whole, rung)}; the same command resumes", err=True)
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


def _time(whole: PredictionStudy, rung: str) -> str:
    """How long what is missing of a rung takes on all cases: by what its runs took in this study or
    in the packaged one, else for a language model by its size."""
    from workbench.studies.prediction import saved
    from workbench.studies.prediction.language_models import SMALLEST, size_of

    missing, each = whole.missing(rung), whole.seconds_each(rung)
    if not missing:
        return "no time, it is finished"
    known = {name: float(cost) for name, cost in saved.run_costs().iter_rows()}
    if each is None:
        each = known.get(rung)
    if each is None and (size := size_of(rung)) is not None:
        each = known[SMALLEST] * size / (size_of(SMALLEST) or 1.0)
        return f"about {duration(each * missing)} of one core at most (by its size)"
    if each is None:
        return "how long is known after its first runs"
    return f"about {duration(each * missing)} of one core"


def _ask(
    asked: _Asked, folders: tuple[Path, ...], log: Diagnosis | None, rung: str, metric: str
) -> PredictedRanking | None:
    """Rank strategies for one case; None where only its time was asked for."""
    from workbench.studies.prediction import missing_runs
    from workbench.studies.prediction.protocol import START
    from workbench.studies.prediction.question import answer
    from workbench.studies.prediction.small_policies import look_alike
    from workbench.studies.prediction.study import RATES, PredictionStudy

    if log is not None:
        from workbench.diagnosis.lookalike import wanted_of

        wanted = wanted_of(log)
        plan = asked.plan(wanted.group)
        place = asked.out / f"log-{wanted.all_zero:.4f}-{wanted.several:.4f}-{plan.name}"
        made: Rung = look_alike(wanted.all_zero, wanted.several, plan, RATES[rung])
        users = [str(i) for i in range(plan.test)]
    else:
        plan = asked.plan(asked.group)
        case = asked.case(folders[0], plan)
        whole = PredictionStudy(asked.out, (case,), plan)
        click.echo(f"{rung}: {_time(whole, rung)}; the same command resumes", err=True)
        if asked.time_only:
            return None
        place, users = whole.place(rung, case), list(case.users)
    try:
        if log is None:
            made = whole.rung(rung, case)
        with progress_bar("runs") as progress:
            for _ in missing_runs.do(made, plan, place, range(asked.seeds), progress):
                pass
    except ValueError as problem:
        raise UserError(str(problem)) from None
    held = missing_runs.collected(place, plan)
    assert held is not None
    found = answer(rung, metric, (START, *plan.strategies), held[0], users)
    if asked.style != "table":
        emit(found.pairs, asked.style, "")
        return found
    emit(found.table, asked.style, f"{metric}, mean of {len(held[1])} seeds on {rung}")
    _say(found, rung, metric)
    click.echo(f"Cost: {duration(missing_runs.seconds(place)[0])} of one core.")
    return found


def _ask_theory(
    asked: _Asked, reading: LogOptions, logs: tuple[Path, ...], metric: str
) -> PredictedRanking:
    """Rank strategies by theory, from the hits of a log's late groups."""
    from workbench.studies.prediction.question import answer_of_hits

    log = reading.rollouts(files_of(logs))
    hits, rows = log.late_hit_shares(), asked.plan(asked.group).strategies
    try:
        found = answer_of_hits(hits, log.group, rows, metric, log.beam)
    except ValueError as problem:
        raise UserError(f"--log: {problem}") from None
    if asked.style != "table":
        emit(found.pairs, asked.style, "")
        return found
    title = f"{metric}: the theory's scores, from the last {len(hits)} groups of {log.group}"
    emit(found.table, asked.style, title)
    for line in (f"Record of {found.rung} on {metric}: it {found.record}.", *found.notes):
        click.echo(line)
    if not found.trusted:
        click.echo("So no probability is stated for a language model.")
    click.echo("Cost: nothing is trained.")
    return found


def _results(file: Path | None, metric: str) -> pl.DataFrame | None:
    """What was run afterwards, read before anything is trained."""
    from workbench.studies.prediction.followed import read_results

    return None if file is None else read_results(file, metric)


def _hold_against(found: PredictedRanking, results: pl.DataFrame, style: str) -> None:
    """Say how many differences of the runs that followed the ranking had in order."""
    from workbench.studies.prediction.followed import held_against

    click.echo(held_against(found.pairs, results).text(), err=style != "table")


def _say(found: PredictedRanking, rung: str, metric: str) -> None:
    """How many pairs differ, and what the rung's record is worth."""
    told = found.pairs.filter(pl.col("p_holm") < 0.05)
    click.echo(
        f"{told.height} of {found.pairs.height} pairs differ there for sure (p < .05, Holm)."
    )
    click.echo(f"Record of {rung} on {metric}: it {found.record}.")
    if not found.trusted:
        click.echo(
            "So it is not asked what a language model would do: the ranking above is that of the "
            "simulated world alone."
        )
