"""Parallel coordinates of a store: settings to the left, what they reached to the right."""

from __future__ import annotations

import polars as pl
import streamlit as st

from workbench import charts
from workbench.analysis.cells import run_table, varying_fields
from workbench.charts.style import words_of
from workbench.pages.address import Address
from workbench.pages.figure import figure
from workbench.pages.stored import StoreState, cached_by_store

MOST = 2000
FIRST = ("strategy", "lr", "group", "start.all_zero")


def parallel_coordinates(view: Address, state: StoreState, frame: pl.DataFrame) -> None:
    """Choose the axes and draw every run."""
    runs = cached_by_store(state, "runs with settings", lambda: with_settings(frame))
    metrics = [name for name in charts.METRICS if name in runs.columns and runs[name].count()]
    fields = list(dict.fromkeys([*FIRST, *varying_fields(frame), "seed"]))
    fields = [name for name in fields if name in runs.columns and runs[name].null_count() == 0]
    chosen = st.multiselect(
        "Settings",
        fields,
        format_func=words_of,
        **view.some_of(
            "axes",
            fields,
            [name for name in FIRST if name in fields and runs[name].n_unique() > 1] or fields[:2],
        ),
    )
    metric = st.selectbox(
        "Metric",
        metrics,
        format_func=charts.METRICS.__getitem__,
        **view.one_of("reached", metrics),
    )
    shown = runs.drop_nulls(metric)
    if not chosen or shown.is_empty():
        st.info("Choose a setting.")
        return
    if shown.height > MOST:
        st.caption(f"{MOST:,} of {shown.height:,} runs are drawn, evenly spaced.")
        shown = shown.gather_every(-(-shown.height // MOST))
    figure(
        charts.parallel(shown, chosen, metric),
        shown.select(list(dict.fromkeys(["run", "strategy", *chosen, metric]))),
        name="parallel",
        read="One line per run, from its settings to what it reached after its last step, on test "
        "users. Click a strategy in the legend to see it alone. Rates that end high on the right "
        "are good for that metric; a chosen rate is chosen on validation users.",
    )


def with_settings(frame: pl.DataFrame) -> pl.DataFrame:
    """`run_table` with the settings that do not vary too."""
    known = [name for name in frame.columns if name == "group" or "." in name]
    first = frame.select("run", *known).unique("run", keep="first")
    table = run_table(frame)
    return table.join(first.drop([c for c in known if c in table.columns]), on="run", how="left")
