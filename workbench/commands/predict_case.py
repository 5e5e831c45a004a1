"""What `recast predict` asks of one's own case: by theory, or by training a cheap rung."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl

from workbench.commands.log_options import LogOptions
from workbench.commands.output import emit, progress_bar
from workbench.diagnosis.logs.read import files_of
from workbench.errors import UserError
from workbench.execution.forecast import duration
from workbench.spec.metrics import LM_METRICS

if TYPE_CHECKING:
    from workbench.diagnosis.diagnosis import Diagnosis
    from workbench.studies.prediction.language_models import Given
    from workbench.studies.prediction.protocol import Case, PredictionPlan, Rung
    from workbench.studies.prediction.question import PredictedRanking
    from workbench.studies.prediction.study import PredictionStudy

OPTIONS = (
    click.option("--metric", type=click.Choice(LM_METRICS), default="area", show_default=True),
    click.option("--strategy", "names", multiple=True, help="Only these rows; repeatable."),
    click.option("--seeds", type=click.IntRange(1, 100), default=10, show_default=True),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        default=Path("predictions"),
        show_default=True,
        help="Runs are kept here; the same command resumes.",
    ),
    click.option(
        "--followed",
        type=click.Path(path_type=Path),
        default=None,
        help="CSV of what was run afterwards (strategy, seed, and the metric or value): how many "
        "of its differences the ranking had in order.",
    ),
    click.option("--time-only", is_flag=True, help="State the time that is left and stop."),
)
"""Of every command that ranks strategies for a case."""


def case_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `OPTIONS`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class CaseQuestion:
    """What is trained for an answer and where it is kept, as the options of these names say."""

    names: tuple[str, ...]
    all_zero: float | None
    hit_rate: float | None
    group: int
    seeds: int
    out: Path
    time_only: bool
    style: str
    category: str | None = None
    codebook: int | None = None

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
            data = load_data(folder, self.codebook, category=self.category)
        except LMError as problem:
            raise UserError(str(problem)) from None
        own = ALL_ZERO.get(data.name, USUAL)
        return case_of(data, plan, own if self.all_zero is None else self.all_zero, self.hit_rate)


def time_left(whole: PredictionStudy, rung: str) -> str:
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


def ask(
    asked: CaseQuestion,
    folders: tuple[Path, ...],
    log: Diagnosis | None,
    rung: str,
    metric: str,
    model: Given | None = None,
) -> PredictedRanking | None:
    """Rank strategies for one case; None where only its time was asked for. model: whose start the
    distilled rung copies. Raises UserError."""
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
        whole = PredictionStudy(asked.out, (case,), plan, model)
        click.echo(f"{rung}: {time_left(whole, rung)}; the same command resumes", err=True)
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


def ask_theory(
    asked: CaseQuestion, reading: LogOptions, logs: tuple[Path, ...], metric: str
) -> PredictedRanking:
    """Rank strategies by theory, from the hits of a log's late groups. Raises UserError."""
    from workbench.studies.prediction.question import answer_of_hits

    log = reading.rollouts(files_of(logs))
    hits, rows = log.late_hit_shares(), asked.plan(asked.group).strategies
    try:
        found = answer_of_hits(hits, log.group, rows, metric, log.beam)
    except ValueError as problem:
        raise UserError(f"--log: {problem}") from None
    _tell_theory(asked, found, metric, f"from the last {len(hits)} groups of {log.group}")
    return found


def ask_model(
    asked: CaseQuestion, folder: Path, model: Given, metric: str
) -> PredictedRanking | None:
    """Rank strategies by theory, from the hit probabilities of the user's own model; None where
    only the time was asked for. Raises UserError."""
    from workbench.studies.prediction.language_models import PRETRAINED
    from workbench.studies.prediction.question import answer_of_hits
    from workbench.studies.prediction.study import THEORY, PredictionStudy

    plan = asked.plan(asked.group)
    case = asked.case(folder, plan)
    click.echo(f"{THEORY}: one pass over 2,048 prompts at most; nothing is trained", err=True)
    if asked.time_only:
        return None
    try:
        whole = PredictionStudy(asked.out, (case,), plan, model)
        hits = whole.keep_hits(PRETRAINED, case)
        found = answer_of_hits(hits, plan.group, plan.strategies, metric, rung=THEORY)
    except ValueError as problem:
        raise UserError(f"--start: {problem}") from None
    told = f"from its probability of a hit at {len(hits)} prompts ({hits.mean():.3%} on the mean)"
    _tell_theory(asked, found, metric, told)
    return found


def results_of(file: Path | None, metric: str) -> pl.DataFrame | None:
    """What was run afterwards, read before anything is trained. Raises UserError."""
    from workbench.studies.prediction.followed import read_results

    return None if file is None else read_results(file, metric)


def hold_against(found: PredictedRanking, results: pl.DataFrame, style: str) -> None:
    """Say how many differences of the runs that followed the ranking had in order."""
    from workbench.studies.prediction.followed import held_against

    click.echo(held_against(found.pairs, results).text(), err=style != "table")


def _tell_theory(asked: CaseQuestion, found: PredictedRanking, metric: str, source: str) -> None:
    """Print a ranking by theory. source: where its hits are from."""
    if asked.style != "table":
        emit(found.pairs, asked.style, "")
        return
    emit(found.table, asked.style, f"{metric}: the theory's scores, {source}")
    for line in (f"Record of {found.rung} on {metric}: it {found.record}.", *found.notes):
        click.echo(line)
    if not found.trusted:
        click.echo("So no probability is stated for a language model.")
    click.echo("Cost: nothing is trained.")


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
