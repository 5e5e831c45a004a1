"""Whether a run was worth going on with, told from its first third."""

from __future__ import annotations

import polars as pl
import streamlit as st

from workbench.pages.figure import grid
from workbench.stats.growth import FEWEST_POINTS
from workbench.studies.prediction.curves import SHARE, of_runs, record


def end_forecasts(rows: pl.DataFrame, metric: str, axis: str) -> None:
    """Forecasts of the ends of the shown strategies from their first third, beside the ends; one
    line where these runs were evaluated too seldom for that."""
    table = of_runs(rows, metric, axis)
    if table.is_empty():
        looked = rows["step"].n_unique()
        st.caption(
            f"No forecast of the end from the first part of these runs: it needs {FEWEST_POINTS} "
            f"points in the first half, the start among them, and these have {looked} in all. A "
            "sweep with `evaluations = 12` under `[train]` gets one here."
        )
        return
    st.header("Is it worth going on?")
    whole = record().row(0, named=True)
    number = st.column_config.NumberColumn
    grid(
        table,
        hide_index=True,
        column_config={
            "seen": number("Budget seen", format="%.0f"),
            "end": number("Budget at the end", format="%.0f"),
            **{name: number(format="%.4f") for name in ("forecast", "low", "high", "actual")},
            "chance": number("Chance that going on pays", format="percent"),
        },
        alt="Per strategy: the end forecast from its first third with a 90% interval, and the end",
    )
    st.caption(
        f"From the first {SHARE:.0%} of the budget, mean over seeds. It pays to go on where a "
        f"tenth of what was gained so far is still gained. On {whole['runs']} packaged runs that "
        f"did not choose the form, {whole['coverage']:.0%} of the ends lay inside their 90% "
        f"interval, and the median error was {whole['error']:.1%}. For a run of your own: "
        "`recast forecast FILE --end BUDGET`."
    )
