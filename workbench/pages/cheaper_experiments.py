"""What the packaged study says of cheaper experiments: decision accuracy against their cost."""

from __future__ import annotations

import polars as pl
import streamlit as st

from workbench import charts
from workbench.pages.address import Address
from workbench.pages.figure import figure, plain
from workbench.spec.metrics import LM_METRICS
from workbench.studies.prediction import saved


def cheaper_experiments(view: Address) -> None:
    """The chart of decision accuracy by rung, for one metric, and its numbers."""
    dear = saved.dearest()
    name = charts.RUNGS.get(dear, dear)
    folders = ", ".join(sorted(set(saved.pairs()["data"])))
    st.write(
        f"Two strategies that differ for sure on the dearest rung measured ({name}): does a "
        f"cheaper experiment order them alike? Data: {folders}."
    )
    choices = ["all", *LM_METRICS]
    metric = st.selectbox(
        "Metric that is predicted",
        choices,
        format_func=lambda one: "all together" if one == "all" else charts.METRICS.get(one, one),
        **view.one_of("predicted", choices),
    )
    rows = saved.accuracies().filter((pl.col("dear") == dear) & (pl.col("metric") == metric))
    figure(
        charts.what_knowing_costs(rows, metric),
        rows,
        name="what-knowing-costs",
        read="Up is right more often, left is cheaper. Half is a coin; `recast predict` asks a "
        "rung about language models from nine in ten on two data sets on, and where its "
        "probabilities beat a coin too. Bars resample strategies and data sets.",
    )
    stated = saved.reliabilities(metric)
    if stated.height and st.toggle("Do the stated probabilities hold?", **view.flag("reliable")):
        figure(
            charts.do_probabilities_hold(stated),
            stated,
            name="do-probabilities-hold",
            read="All pairs, also those that hardly differ. A mark below the dashed line is a rung "
            "that was too sure. The steepness of a rung's probabilities comes from the other data "
            "sets alone; larger marks hold more pairs, bars resample strategies and data sets.",
        )
    for rung in rows["cheap"].to_list():
        _, said = saved.worth(rung, metric) if metric != "all" else (False, "")
        if said:
            st.caption(plain(f"{charts.RUNGS.get(rung, rung)}: {said}."))
