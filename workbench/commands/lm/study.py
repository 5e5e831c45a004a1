"""`recast lm study`: the measured comparison on a real model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl

from workbench.analysis.tuning import HEADLINE, edge, mark_tuned
from workbench.commands.bounds import FEW, KL, RATE, WHOLE
from workbench.commands.lm.session import (
    BATCHES,
    CODEBOOK,
    DATA,
    LORA,
    SCHEDULE,
    SEARCH,
    category,
    check_rollouts,
    on_device,
    one_line,
    reads_models,
    show_start,
)
from workbench.commands.output import FORMAT, emit, progress_bar
from workbench.errors import UserError
from workbench.execution.forecast import duration
from workbench.plurals import number_of
from workbench.spec.metrics import LM_METRICS
from workbench.spec.row_names import settings_of, split_row
from workbench.stats.estimates import ENOUGH
from workbench.stats.two_way import LEAST_RESAMPLED_P, RESAMPLES
from workbench.store.runs import Store

if TYPE_CHECKING:
    from recast.lm.dataset import LMData
    from recast.lm.device import Placement
    from recast.lm.pretrained import ModelReading
    from recast.lm.study import Entry, Tuned
    from workbench.real.study import Study, StudyPlan
    from workbench.real.tables import StudyValues

RATES = (3e-4, 1e-3, 3e-3)
SHOWS = ("scores", "differences", "costs", "tuning", "simulator")


@click.command()
@DATA
@CODEBOOK
@click.option("--out", type=click.Path(path_type=Path), required=True, help="All of it goes here.")
@click.option("--starts", "count", type=click.IntRange(1, FEW), default=5, show_default=True)
@click.option(
    "--start",
    "starts",
    multiple=True,
    help="SFT checkpoint, a folder or hub name; repeatable (seed s starts from number s modulo "
    "their count). Default: trains --starts small ones.",
)
@click.option("--layers", type=click.IntRange(1, 128), default=2, show_default=True)
@click.option("--width", type=click.IntRange(32, 8192), default=64, show_default=True)
@click.option(
    "--strategy",
    "names",
    multiple=True,
    help="Only these rows; repeatable. 'NAME averaged' measures the mean of the weights of "
    "the last half of the steps; the rate of 'NAME decaying' falls linearly to 0.",
)
@click.option("--found", default=None, help="One more row: what a search found in the simulator.")
@click.option("--lr", "rates", type=RATE, multiple=True, default=RATES, help="Repeatable.")
@click.option("--steps", type=click.IntRange(1, WHOLE), default=60, show_default=True)
@click.option(
    "--stops",
    type=click.IntRange(1, FEW),
    default=3,
    show_default=True,
    help="Checkpoints to choose.",
)
@BATCHES
@click.option("--kl", type=KL, default=0.0, show_default=True)
@SCHEDULE
@click.option("--seeds", type=click.IntRange(1, FEW), default=10, show_default=True)
@click.option("--tuning-seeds", type=click.IntRange(1, FEW), default=2, show_default=True)
@click.option(
    "--tune-metric",
    type=click.Choice(LM_METRICS),
    default=HEADLINE,
    show_default=True,
)
@click.option(
    "--eval-prompts",
    type=click.IntRange(8, WHOLE),
    default=None,
    help="Default: every test prompt.",
)
@click.option(
    "--simulated",
    type=click.Path(path_type=Path),
    default=None,
    help="A store of `recast run --world replay --data DIR`: does it rank strategies alike?",
)
@click.option("--time-only", is_flag=True, help="State the time that is left and stop.")
@click.option("--read-only", is_flag=True, help="Print what is finished; run nothing.")
@click.option("--show", type=click.Choice(SHOWS), default="scores", help="For csv and json.")
@LORA
@SEARCH
@on_device
@reads_models
@FORMAT
def study(
    folder: Path,
    codebook: int | None,
    out: Path,
    count: int,
    starts: tuple[str, ...],
    layers: int,
    width: int,
    names: tuple[str, ...],
    found: str | None,
    rates: tuple[float, ...],
    steps: int,
    stops: int,
    batch: int,
    group: int,
    kl: float,
    schedule: Any,
    micro_rows: int,
    seeds: int,
    tuning_seeds: int,
    tune_metric: str,
    eval_prompts: int | None,
    simulated: Path | None,
    time_only: bool,
    read_only: bool,
    show: str,
    style: str,
    lora: int | None,
    search: Any,
    placement: Placement,
    reading: ModelReading,
) -> None:
    """The measured comparison: tuned on tuning users, paired seeds, the test split read once.

    Rate and checkpoint of every row are chosen together by --tune-metric over the tuning seeds.
    States its time first; the same command resumes, a run that was cut is done again.
    Columns: docs/columns.md.
    """
    from recast.lm.dataset import load_data
    from recast.lm.update import RLTraining
    from workbench.real.sft_starts import train_starts
    from workbench.real.study import Study, StudyPlan, run_missing

    check_rollouts(batch, group)
    entries = _entries(names, found, search, group)
    with one_line("transformers", "safetensors"), progress_bar("parts") as progress:
        data = load_data(folder, codebook, category=category())
        made = starts or train_starts(data, out, count, layers, width, progress, placement)
        plan = StudyPlan(
            folder=out,
            starts=made,
            how=RLTraining(
                steps=steps,
                batch=batch,
                group=group,
                kl_weight=kl,
                micro_rows=micro_rows,
                skip_idle=True,
                search=search,
                schedule=schedule,
            ),
            entries=entries,
            rates=tuple(sorted(rates)),
            stops=tuple(sorted({max(1, round(steps * (i + 1) / stops)) for i in range(stops)})),
            seeds=seeds,
            tuning=tuning_seeds,
            metric=tune_metric,
            eval_prompts=eval_prompts,
            placement=placement,
            reading=reading,
            lora=lora or 0,
        )
        whole = Study(plan, data, lambda opened: show_start(opened, data, reading))
        if not read_only:
            tasks = whole.tuning_tasks()
            left, chosen = whole.missing(tasks), whole.chosen()
            report = (
                whole.missing(whole.report_tasks(chosen)) if chosen else seeds * len(plan.entries)
            )
            count = report if isinstance(report, int) else len(report)
            if left or count:
                seconds = whole.seconds(left, report)
                click.echo(
                    f"{len(left)} tuning and {count} reporting runs to do, about "
                    f"{duration(seconds)} of one core (a step of every row and an evaluation "
                    "measured); the same command resumes",
                    err=True,
                )
            if time_only:
                return
            for _ in run_missing(whole, tasks, progress):
                pass
            chosen = whole.chosen()
            assert chosen is not None
            for _ in run_missing(whole, whole.report_tasks(chosen), progress):
                pass
        _print(whole, data, simulated, show, style)


def _entries(
    names: tuple[str, ...], found: str | None, search: Any, group: int
) -> tuple[Entry, ...]:
    """The rows: of `ENTRIES` by their labels, and any strategy of the library by its own name."""
    from recast.lm.signal import given
    from recast.lm.study import ENTRIES, Entry
    from recast.strategies import parse_strategy
    from recast.strategy import require_inputs

    known = {entry.label for entry in ENTRIES}
    chosen = [entry for entry in ENTRIES if entry.label in names]
    chosen += [_entry(name) for name in dict.fromkeys(names) if name not in known]
    entries = [*(chosen or ENTRIES)]
    if found is not None:
        entries.append(Entry("found_in_simulator", found))
    for entry in entries:
        option = "--found" if entry.label == "found_in_simulator" else "--strategy"
        try:
            require_inputs(parse_strategy(entry.strategy), given(search), group)
        except ValueError as problem:
            raise UserError(f"{option}: {problem}") from None
    return tuple(entries)


def _entry(name: str) -> Entry:
    """A row from `NAME`, `NAME averaged` or `NAME decaying`."""
    from recast.lm.study import Entry

    return Entry(name, split_row(name)[0], **settings_of(name))


def _print(whole: Study, data: LMData, simulated: Path | None, show: str, style: str) -> None:
    from workbench.real.tables import (
        against_simulator,
        collect,
        costs,
        differences,
        scores,
        sentences,
    )

    plan = whole.plan
    chosen = whole.chosen()
    if chosen is None:
        raise UserError(
            f"{plan.folder}: tuning is not finished; give the command without --read-only"
        )
    measured = collect(whole, chosen)
    if measured is None:
        raise UserError(f"{plan.folder}: no seed is finished; give the command without --read-only")
    gaps = differences(measured)
    tables = {
        "scores": scores(measured, chosen, ("all", "seen", "new"), plan.rates),
        "differences": gaps,
        "costs": costs(whole.costs(), plan.how.micro_rows),
        "tuning": whole.tuning_table(),
    }
    if simulated is not None:
        store = Store(simulated)
        frame = mark_tuned(store.load(), plan.metric)
        if frame.is_empty():
            raise UserError(f"{simulated}: no runs in this store; recast run --world replay")
        tables["simulator"] = against_simulator(measured, frame)
    if style != "table":
        if show not in tables:
            raise UserError("--show simulator: give the store with --simulated")
        emit(tables[show], style, "")
        return
    _print_tables(tables, plan, measured, data.name, style)
    for line in sentences(gaps, measured.seeds):
        click.echo(line)
    click.echo(
        f"sft_tempered: sft sampled at T = {measured.tempered:g}, chosen on the tuning users. "
        f"Rate and checkpoint: by {plan.metric} on {len(data.tuning)} tuning prompts, "
        f"{plan.tuning} tuning seeds, rates {', '.join(f'{r:g}' for r in plan.rates)}, "
        f"checkpoints {', '.join(map(str, plan.stops))}."
    )
    _print_notes(plan, chosen, measured.seeds)


def _print_tables(
    tables: dict[str, pl.DataFrame], plan: StudyPlan, measured: StudyValues, name: str, style: str
) -> None:
    """Scores, differences by control, costs and, where it was asked for, the simulator."""
    from workbench.real.tables import wide

    seeds, gaps = measured.seeds, tables["differences"]
    emit(
        tables["scores"].filter(slice="all").drop("slice"),
        style,
        f"{name}: {number_of(len(measured.users), 'test prompt')}, {number_of(seeds, 'seed')}, "
        "mean [95% interval over users and seeds together]",
    )
    apart = tables["scores"].filter(pl.col("slice") != "all").drop("lr", "edge", "step", "seeds")
    emit(apart, style, "Seen and newly introduced targets")
    for control in gaps["control"].unique(maintain_order=True):
        over = f"corrected p < .05 over this table, {number_of(seeds, 'seed')}"
        title = f"Minus {control}; * real: {over}"
        emit(wide(gaps, control), style, title)
    emit(
        tables["costs"],
        style,
        f"One step at the start, {plan.how.batch} prompts, G = {plan.how.group}, shared prefix",
    )
    if "simulator" in tables:
        emit(tables["simulator"], style, "Does the replay world rank the strategies alike?")


def _print_notes(plan: StudyPlan, chosen: Mapping[str, Tuned], seeds: int) -> None:
    """What limits a reading of the tables: a rate on the edge, few seeds, few starts."""
    click.echo(
        f"p_corrected: users and seeds resampled together {RESAMPLES:,} times, corrected (max-T) "
        f"over a control's rows and metrics: none can be below {LEAST_RESAMPLED_P:.2g}."
    )
    there = [name for name, (lr, _) in chosen.items() if edge(plan.rates, lr)]
    if there:
        click.echo(f"note: chosen rate on the edge of the grid: {', '.join(there)}")
    if seeds < ENOUGH:
        click.echo(
            f"note: {number_of(seeds, 'seed')}; a difference between strategies needs ten or more"
        )
    starts = len(plan.starts)
    if starts < min(seeds, ENOUGH):
        click.echo(
            f"note: {number_of(starts, 'start')} behind {number_of(seeds, 'seed')}; seeds of one "
            "start share its luck, so intervals speak of these starts"
        )
