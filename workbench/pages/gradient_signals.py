"""Gradient signals: what each strategy makes of one group that you can edit."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import streamlit as st
import torch

from recast import STRATEGIES, Origin, RolloutGroups, build_signal
from workbench import charts
from workbench.budget import tuned_test_rows
from workbench.store import StoreError, load_or_example


def sample_group(width: int, hit_probability: float, draw: int) -> pl.DataFrame:
    """rollout, reward, score of one group, the same for the same arguments.

    A miss matches 0, 1 or 2 of three levels (score 0, .01, .1).
    """
    rng = np.random.default_rng([draw, width])
    hit = rng.random(width) < hit_probability
    score = np.where(hit, 1.0, rng.choice([0.0, 0.01, 0.1], size=width, p=[0.6, 0.3, 0.1]))
    return pl.DataFrame(
        {"rollout": np.arange(1, width + 1), "reward": hit.astype(np.float64), "score": score}
    )


def signal_frames(
    group: pl.DataFrame, names: list[str], draw: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Advantages (strategy, rollout, advantage) and a summary row per strategy.

    Raises ValueError for a blank cell or a score outside [0, 1].
    """
    columns = {name: group[name].cast(pl.Float64).fill_null(float("nan")) for name in group.columns}
    key = np.random.default_rng([draw, len(group), 1]).random(len(group))
    groups = RolloutGroups.of(
        torch.tensor([columns["reward"].to_list()], dtype=torch.float64),
        score=torch.tensor([columns["score"].to_list()], dtype=torch.float64),
        tie_key=torch.tensor(key).unsqueeze(0),
        item=torch.arange(len(group)).unsqueeze(0),
    )
    bars: list[dict[str, Any]] = []
    table: list[dict[str, Any]] = []
    for name in names:
        signal = build_signal(STRATEGIES[name], groups)
        anchor = (signal.groups.origin[0] == int(Origin.ANCHOR)).nonzero().flatten().tolist()
        rows = (signal.rows[0].nonzero().flatten() + 1).tolist()
        if not STRATEGIES[name].needs_rollouts:
            rows = []
        target = signal.supervised > 0
        bars += [
            {"strategy": name, "rollout": i, "advantage": value}
            for i, value in enumerate(signal.advantage[0].tolist(), start=1)
        ]
        reaching = [str(row) for row in rows] + ["target"] * target
        table.append(
            {
                "strategy": name,
                "anchor slot": anchor[0] + 1 if anchor else None,
                "rows reaching the actor": ", ".join(reaching) or "none",
                "update width": len(reaching),
                "signal count": int(signal.count[0]),
            }
        )
    return pl.DataFrame(bars), pl.DataFrame(table, schema_overrides={"anchor slot": pl.Int64})


st.title("What does each strategy learn from one group?")
left, middle, right = st.columns(3)
width = left.slider("Rollouts per group, G", 1, 32, 8, key="width")
percent = middle.slider("Hit probability (%)", 0.0, 100.0, 5.0, step=0.5, key="hit_probability")
draw = st.session_state.setdefault("draw", 0)
if right.button("Resample the group", key="resample"):
    st.session_state["draw"] = draw = draw + 1

editor, picture = st.columns([1, 2])
with editor:
    st.caption("Edit a reward (above 0 is a hit) or a structural score (0 to 1).")
    edited = st.data_editor(
        sample_group(width, percent / 100, draw),
        key=f"group-{draw}-{width}-{percent}",
        hide_index=True,
        disabled=["rollout"],
        column_config={
            "reward": st.column_config.NumberColumn("Reward", required=True),
            "score": st.column_config.NumberColumn(
                "Score", min_value=0.0, max_value=1.0, required=True
            ),
        },
    )
usable = [
    name
    for name, strategy in STRATEGIES.items()
    if strategy.needs <= {"target", "tie_key", "item"} and not strategy.select.startswith("pods")
]
names = st.multiselect("Strategies", usable, usable[:10], key="strategies")
if not names:
    st.info("Choose at least one strategy.")
    st.stop()
try:
    bars, table = signal_frames(edited, charts.in_order(names), draw)
except ValueError as problem:
    st.error(str(problem))
    st.stop()
with picture:
    st.altair_chart(charts.advantages(bars), width="content")
st.caption(
    "The group stands alone here, so `reinforce` centres on it; in a batch its baseline includes "
    "the other groups. `target` is a supervised row. Ties are broken at random."
)
st.dataframe(table, hide_index=True, width="stretch")

st.header("And over a whole training run?")
try:
    frame, source = load_or_example()
except StoreError as problem:
    st.error(str(problem))
    st.stop()
st.caption(f"Measured. Data: {source}.")
measured = tuned_test_rows(frame)
quantity = st.selectbox(
    "Count", list(charts.COUNTS), format_func=lambda key: charts.COUNTS[key], key="quantity"
)
measured = measured.drop_nulls(quantity) if quantity in measured.columns else measured.clear()
if measured.is_empty():
    st.info("No stored run has this count.")
    st.stop()
groups = sorted(measured["group"].unique().to_list())
shown = st.selectbox("Rollouts per group, G", groups, key="stored_group")
measured = measured.filter(pl.col("group") == shown)
st.altair_chart(charts.counts_over_training(measured, quantity), width="stretch")
st.dataframe(
    measured.group_by("strategy", "step", maintain_order=True).agg(
        pl.col(quantity).mean().round(4), runs=pl.len()
    ),
    hide_index=True,
    width="stretch",
)
