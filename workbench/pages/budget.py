"""Budget: what each strategy reaches for the same budget, and what a target costs."""

from __future__ import annotations

import numpy as np
import polars as pl
import streamlit as st

from workbench import charts
from workbench.budget import AXES, budget_table, curve_table, final_value, tuned_test_rows
from workbench.store import StoreError, load_or_example

CEILINGS = {"pass_at_1": "ceiling_pass_at_1", "recall_at_10": "ceiling_recall_at_10"}


def mean_of(frame: pl.DataFrame, column: str) -> float | None:
    """Mean of a column, None where it has no values."""
    values = frame[column].drop_nulls().cast(pl.Float64)
    return float(values.to_numpy().mean()) if len(values) else None


st.title("Who gets further for the same budget?")
try:
    frame, source = load_or_example()
except StoreError as problem:
    st.error(str(problem))
    st.stop()
st.caption(f"Data: {source}. Each strategy at its own best learning rate; test users.")
rows = tuned_test_rows(frame)
metrics = [name for name in charts.METRICS if name in rows.columns and rows[name].count()]
if not metrics:
    st.info("No tuned run with a test evaluation yet. Run a sweep, then come back.")
    st.stop()

choices = st.columns(5)
metric = choices[0].selectbox(
    "Metric", metrics, format_func=lambda name: charts.METRICS[name], key="metric"
)
axis = choices[1].selectbox("Budget", list(AXES), format_func=lambda name: AXES[name], key="axis")
known = charts.in_order(rows["strategy"].to_list())
baseline = choices[2].selectbox("Baseline", known, key="baseline")
for column, name, label in ((choices[3], "group", "G"), (choices[4], "world", "World")):
    options = sorted(rows[name].unique().to_list())
    rows = rows.filter(pl.col(name) == column.selectbox(label, options, key=name))

curves = curve_table(rows, metric, axis)
missing = [name for name in known if name not in set(curves["strategy"])]
if missing:
    st.caption(f"Not drawn, nothing to show on this axis: {', '.join(missing)}.")
if curves.is_empty():
    st.info("No strategy spends anything on this axis.")
    st.stop()
start = mean_of(rows.filter(pl.col("step") == 0), metric)
ceiling = mean_of(rows, CEILINGS[metric]) if metric in CEILINGS else None
st.altair_chart(
    charts.learning_curves(curves, metric, axis, start=start, ceiling=ceiling), width="stretch"
)
st.caption("Mean over seeds; the band is a 95% seed bootstrap, drawn from 5 seeds on.")
st.dataframe(curves, hide_index=True, width="stretch")

st.header("What does a target cost?")
lowest = curves["mean"].to_numpy().min() if start is None else start
highest = curves["mean"].to_numpy().max()
if not highest > lowest:
    st.info("No strategy rises above the start on this metric.")
    st.stop()
if baseline in set(rows["strategy"]):
    default = final_value(rows, metric, baseline)
else:
    default = float(highest)
target = st.slider(
    "Target",
    min_value=float(lowest),
    max_value=float(highest),
    value=float(np.clip(default, lowest, highest)),
    step=float(highest - lowest) / 200,
    format="%.4f",
    key=f"target-{metric}-{axis}-{baseline}",
    help="Starts at the baseline's mean final value.",
)
table = budget_table(rows, metric, axis, baseline, [target])
st.dataframe(
    table.with_columns(never_reached=pl.col("n_runs") - pl.col("n_reached")),
    hide_index=True,
    width="stretch",
    column_config={
        "median": st.column_config.NumberColumn(f"{AXES[axis]}, median", format="%.0f"),
        "low": st.column_config.NumberColumn("95% low", format="%.0f"),
        "high": st.column_config.NumberColumn("95% high", format="%.0f"),
        "ratio_to_baseline": st.column_config.NumberColumn(f"x {baseline}", format="%.3f"),
        "never_reached": st.column_config.NumberColumn("runs that never reach it"),
    },
)
never = int((table["n_runs"] - table["n_reached"]).to_numpy().sum())
st.caption(
    f"{never} of {table['n_runs'].to_numpy().sum()} runs never reach it; they count as infinite in "
    "the median, which is blank when half or more never do. Reached: two evaluations in a row at "
    "or above the target."
)
sweep = np.linspace(lowest, highest, 21)[1:].tolist()
by_target = budget_table(rows, metric, axis, baseline, sweep)
st.altair_chart(charts.budget_by_target(by_target, axis), width="stretch")
st.caption("Hollow: some runs never reach that target. A line ends where half or more never do.")
st.dataframe(by_target, hide_index=True, width="stretch")
