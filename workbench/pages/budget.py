"""Budget: what each strategy reaches for the same budget, and what a target costs."""

from __future__ import annotations

import numpy as np
import polars as pl
import streamlit as st

from workbench import charts
from workbench.analysis.answers import Answer, against, cheapest, leads
from workbench.analysis.budget import (
    AXES,
    budget_table,
    cautions,
    curve_table,
    final_value,
    reach_events,
    spends_nothing,
    survival_table,
)
from workbench.analysis.cells import cell_labels
from workbench.analysis.rows import tuned_test_rows
from workbench.analysis.tuning import mark_tuned
from workbench.charts.style import words_of
from workbench.pages.address import Address
from workbench.pages.end_forecasts import end_forecasts
from workbench.pages.figure import answer, figure, grid, least_p_told, plain
from workbench.pages.stored import cached_by_store, data_switch, stored_runs
from workbench.pages.tuned_for import chosen_rates, other_rates, tuning_box
from workbench.report.figures import PAPER_SHARE
from workbench.spec.metrics import COMPARED
from workbench.spec.row_names import AVERAGED, split_row
from workbench.studies.evidence import with_setting
from workbench.studies.phase_map import phase_table

CEILINGS = {name: f"ceiling_{name}" for name in ("pass_at_1", "hr_at_10", "recall_at_10")}
MOST_LINES = 10


def mean_of(frame: pl.DataFrame, column: str) -> float | None:
    """Mean of a column, None where it has no values."""
    values = frame[column].drop_nulls().cast(pl.Float64)
    return float(values.to_numpy().mean()) if len(values) else None


def sampled_users(rows: pl.DataFrame) -> str:
    """How many users the learning curves are measured on, in words."""
    counts = (
        sorted({int(n) for n in rows["prompts"].drop_nulls()}) if "prompts" in rows.columns else []
    )
    return f"{' or '.join(f'{n:,}' for n in counts)}" if counts else "a sample of the"


def target_sentence(rows: pl.DataFrame, metric: str, axis: str, baseline: str) -> str:
    """What the baseline's own end costs on this axis; empty where it cannot be asked."""
    try:
        table = budget_table(rows, metric, axis, baseline)
    except ValueError:
        return ""
    end = f"Target: where {baseline} ends on the curve of {charts.METRICS[metric]}. "
    return end + cheapest(table, baseline, AXES[axis]) if table.height else ""


view = Address("budget")
st.title("Who gets further for the same budget?")
whose, where, how = st.columns(3)
with whose:
    state = data_switch(view)
frame, source = stored_runs(state)
st.caption(f"Data: {plain(source)}.")
rows = tuned_test_rows(frame)
metrics = [name for name in charts.METRICS if name in rows.columns and rows[name].count()]
if not metrics:
    st.info("No tuned run with a test evaluation yet. Run a sweep, then come back.")
    st.stop()

sharp, wide = metrics[0], "pass_at_32" if "pass_at_32" in metrics else metrics[-1]
view.presets(
    {
        "Quality for rollouts": {"metric": sharp, "axis": "rollouts"},
        "Beside plain SFT": {"metric": sharp, "axis": "optimizer_steps"},
        "Diversity for rollouts": {"metric": wide, "axis": "rollouts"},
        "Quality for actor updates": {"metric": sharp, "axis": "updated_rows"},
        "Quality for labels": {"metric": sharp, "axis": "labels"},
    }
)
choices = st.columns([5, 3, 2])
metric = choices[0].selectbox(
    "Metric", metrics, format_func=charts.METRICS.__getitem__, **view.one_of("metric", metrics)
)
with how:
    asked_for = tuning_box(view, metrics, "the metric that is drawn")
tuned_for = asked_for or metric
unmarked = frame
frame = cached_by_store(state, f"tuned by {tuned_for}", lambda: mark_tuned(unmarked, tuned_for))
rows = tuned_test_rows(frame)
axes = list(AXES)
axis = choices[1].selectbox(
    "Budget", axes, format_func=AXES.__getitem__, **view.one_of("axis", axes)
)
labels = cell_labels(rows, words_of)
cell = where.selectbox(
    "World and start",
    list(labels),
    format_func=labels.__getitem__,
    **view.one_of("cell", list(labels)),
)
rows = rows.filter(pl.col("cell") == cell)
known = charts.in_order(rows["strategy"].to_list())
baseline = choices[2].selectbox("Baseline", known, **view.one_of("baseline", known))
names = st.multiselect("Strategies", known, **view.some_of("strategies", known, known[:MOST_LINES]))
rows = rows.filter(pl.col("strategy").is_in([*names, baseline]))
whole_cell = frame.filter((pl.col("cell") == cell) & pl.col("strategy").is_in([*names, baseline]))

compared = [name for name in COMPARED if name in whole_cell.columns]
judged = cached_by_store(
    state,
    f"winners {cell} {metric} {asked_for} {sorted({*names, baseline})}",
    lambda: phase_table(
        with_setting(whole_cell, []),
        list(dict.fromkeys([metric, *compared])),
        [],
        asked_for,
    ),
)
more = [
    f"{chosen_rates(whole_cell)} Curves and targets are measured on {sampled_users(rows)} test "
    "users, the answer and the table of winners on all of them."
]
if tuned_for != metric:
    more.append(other_rates(metric, whole_cell))
averaged = any(split_row(name)[1] == AVERAGED for name in known)
if not averaged and (
    "train.iterate" not in rows.columns or "mean" not in set(rows["train.iterate"])
):
    more.append(
        "No row here averages its weights, which alone can move supervision by more than a close "
        "margin: the command recast prove compares averaged rows."
    )
if "world.seed" in rows.columns and rows["world.seed"].n_unique() == 1:
    more.append(
        "All seeds share one world, and rows this close change places from world to world: the "
        "command recast prove has four."
    )
said = judged.filter(pl.col("metric") == metric)
reading = (
    leads(said.row(0, named=True), charts.METRICS[metric])
    if said.height
    else Answer("nothing to compare", "Two strategies with the same seeds are needed.")
)
more = [" ".join(more)]
if cost := target_sentence(rows, metric, axis, baseline):
    more.insert(0, cost)
focus = "recast" if "recast" in (*names, baseline) else baseline
asked = [name for name in ("sft", "grpo", baseline) if name in (*names, baseline)]
also = cached_by_store(
    state,
    f"standing {cell} {metric} {tuned_for} {focus} {sorted(set(asked))}",
    lambda: against(
        whole_cell, focus, list(dict.fromkeys(asked)), metric, charts.METRICS[metric], asked_for
    ),
)
answer(reading, more, also)

curves = curve_table(rows, metric, axis)
missing = [
    name for name in charts.in_order([*names, baseline]) if name not in set(curves["strategy"])
]
free = spends_nothing(rows, metric, axis)
unknown = [name for name in missing if name not in free]
if unknown:
    st.caption(f"Not drawn, nothing to show on this axis: {plain(', '.join(unknown))}.")
if curves.is_empty():
    st.info("No strategy spends anything on this axis.")
    st.stop()
start = mean_of(rows.filter(pl.col("step") == 0), metric)
ceiling = mean_of(rows, CEILINGS[metric]) if CEILINGS.get(metric) in rows.columns else None
figure(
    charts.learning_curves(curves, metric, axis, start=start, ceiling=ceiling, free=free),
    curves,
    name="learning-curves",
    read="Left is cheaper, up is better. A line is the mean over seeds, its band a 95% bootstrap "
    "interval, drawn from 5 seeds on. Dashed rules: the start and, where one exists, the best that "
    "any policy can reach in this world; dotted: where rows end that spend nothing on this axis.",
)

told = [
    caution.text
    for caution in cautions(frame.filter(pl.col("cell") == cell), metric, baseline)
    if caution.strategy in (*names, baseline)
]
if told:
    st.warning(
        "**Before you quote a ratio:**\n" + "".join(f"\n- {plain(text)}" for text in told),
        icon=":material/balance:",
    )

st.header("Does the winner change with the metric?")
if judged.is_empty():
    st.info("Two strategies with the same seeds are needed to name a winner.")
else:
    grid(
        judged.with_columns(pl.col("metric").replace(dict(charts.METRICS))),
        hide_index=True,
        width="stretch",
        column_config={
            name: st.column_config.NumberColumn(format="%.4f")
            for name in ("value", "margin", "low", "high", "p")
        },
        alt="Per metric: the winner if any, the best strategy, its hardest rival and the margin",
    )
    st.caption(
        "On all test users, after the same number of optimizer steps, so that plain SFT takes "
        "part. `best` has the "
        "highest mean, `margin` is its lead over the rival that is hardest to tell from it, with a "
        "95% interval over paired seeds. It is the `winner` where p < .05 against every rival; "
        "`none` means that somebody does as well."
    )
    least_p_told(int(judged["seeds"].to_numpy().min()))

st.header("What does a target cost?")
lowest = curves["mean"].to_numpy().min() if start is None else start
highest = curves["mean"].to_numpy().max()
if not highest > lowest:
    st.info("No strategy rises above the start on this metric.")
    st.stop()
default = final_value(rows, metric, baseline)
target = st.slider(
    "Target",
    min_value=float(lowest),
    max_value=float(highest),
    step=float(highest - lowest) / 200,
    format="%.4f",
    help="Starts at the baseline's mean final value.",
    **view.number(f"target_{metric}", float(default), low=float(lowest), high=float(highest)),
)


def share() -> None:
    """Of the baseline's whole budget, with the runs that never reach the target."""
    table = budget_table(rows, metric, axis, baseline, [target]).with_columns(
        never_reached=pl.col("n_runs") - pl.col("n_reached")
    )
    never, runs = (int(table[name].to_numpy().sum()) for name in ("never_reached", "n_runs"))
    number = st.column_config.NumberColumn
    figure(
        charts.budget_shares(table, baseline, paper=PAPER_SHARE if axis == "rollouts" else None),
        table,
        name="budget-shares",
        read=f"Left is cheaper. {never} of {runs} runs never reach the target; they count as "
        "infinite, and a row without a mark means that half of its runs or more never do. Reached: "
        "the never falling curve through a run's evaluations is at or above the target, and not in "
        "its last evaluation alone: few of the baseline's own runs reach the baseline's end.",
        columns={
            "median": number(f"{AXES[axis]}, median", format="%.0f"),
            "low": number("95% low", format="%.0f"),
            "high": number("95% high", format="%.0f"),
            "ratio_to_baseline": number(f"x {baseline}", format="%.3f"),
            "never_reached": number("runs that never reach it"),
        },
    )


def waiting() -> None:
    """How many runs still have not reached the target after a budget."""
    curve = survival_table(reach_events(rows, metric, axis, target))
    figure(
        charts.waiting_curves(curve, axis, target),
        curve,
        name="waiting",
        read="Kaplan-Meier: a curve that falls early is cheap, one that ends above zero has runs "
        "that never reach the target within what they spent.",
    )


def other_targets() -> None:
    """The cost of every target between the start and the best row's end."""
    by_target = budget_table(
        rows, metric, axis, baseline, np.linspace(lowest, highest, 21)[1:].tolist()
    )
    figure(
        charts.budget_by_target(by_target, axis),
        by_target,
        name="budget-by-target",
        read="Further right is harder, lower is cheaper. Hollow: some runs never reach that "
        "target. A line ends where half of the runs or more never do.",
    )


view.draw_part(
    {
        "share": (f"Share of what {baseline} spends", share),
        "waiting": ("How long runs need", waiting),
        "targets": ("What other targets cost", other_targets),
    }
)
end_forecasts(rows, metric, axis)
