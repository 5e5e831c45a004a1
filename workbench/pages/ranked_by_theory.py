"""Which strategies theory puts first, from the hits of a log: nothing is trained."""

from __future__ import annotations

import polars as pl
import streamlit as st

from workbench.diagnosis.diagnosis import Diagnosis
from workbench.errors import UserError
from workbench.pages.address import Address
from workbench.pages.figure import grid, plain
from workbench.spec.metrics import LM_METRICS, METRICS
from workbench.spec.rungs import RUNGS
from workbench.studies.measures import CONTROL
from workbench.studies.prediction import saved
from workbench.studies.prediction.protocol import STRATEGIES
from workbench.studies.prediction.question import PredictedRanking, answer_of_hits


def ranked_by_theory(view: Address, found: Diagnosis) -> None:
    """The ranking by theory on a metric of choice, or why there is none."""
    metric = st.selectbox(
        "Metric that is predicted",
        LM_METRICS,
        format_func=METRICS.__getitem__,
        **view.one_of("predicted", list(LM_METRICS), LM_METRICS[0]),
    )
    try:
        hits = found.late_hit_shares()
        ranking = answer_of_hits(hits, found.group, STRATEGIES, metric, found.beam)
    except (UserError, ValueError) as problem:
        st.info(plain(f"Theory ranks nothing here: {problem}."))
        return
    st.markdown(plain(in_words(ranking, len(hits), found.group)))
    grid(
        ranking.table.select("strategy", "value", pl.col("beats_sft").round(2)),
        hide_index=True,
        placeholder="-",
        key="ranked-by-theory",
        height=320,
        column_config={
            "strategy": "Strategy",
            "value": st.column_config.NumberColumn("Score (a cosine, no unit)", format="%.2f"),
            "beats_sft": st.column_config.NumberColumn(
                f"Chance to be better than {CONTROL}", format="percent"
            ),
        },
        alt="Strategies by the theory's score, with the chance to be better than supervision",
    )
    st.caption(
        plain(
            f"How often theory was right before, on this metric: it {ranking.record}. "
            + " ".join(ranking.notes)
        )
        + " `recast predict --log` prints every pair."
    )


def in_words(ranking: PredictedRanking, groups: int, group: int) -> str:
    """The ranking as two sentences."""
    names = ranking.table["strategy"].to_list()
    said = (
        f"From the hits of your last {groups} groups of {group}, theory puts {names[0]}, "
        f"{names[1]} and {names[2]} first; nothing is trained for this."
    )
    dear = RUNGS[saved.dearest()].replace("language model,", "a language model of")
    chances = dict(ranking.table.select("strategy", "beats_sft").iter_rows())
    told = [f"{name} {chances[name]:.0%}" for name in ("grpo", "recast") if chances.get(name)]
    if not ranking.trusted or not told:
        return f"{said} No probability is stated for a language model."
    return f"{said} Chance to be better than {CONTROL} on {dear}: {', '.join(told)}."
