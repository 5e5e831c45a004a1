"""Gradient signals: what each strategy makes of one group that you can edit."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from recast import STRATEGIES
from workbench import charts
from workbench.analysis.budget import curve_table
from workbench.analysis.rows import tuned_test_rows
from workbench.pages.address import Address
from workbench.pages.figure import figure, grid, plain
from workbench.pages.group_picture import group_picture
from workbench.pages.stored import data_switch, stored_runs
from workbench.theory.group import (
    DEPTH,
    read_group,
    sample_group,
    tree_frames,
    write_group,
)
from workbench.theory.microscope import signal_frames
from workbench.theory.moves import moved, moves

FIRST = ["grpo", "repair_only", "recast", "contrast_only", "sft", "grpo_sft"]
PRESETS = {
    "All-zero, one near miss": "0*0_0*1_0*0_0*2_0*0_0*0_0*1_0*0",
    "Single hit": "0*0_0*1_1*3_0*2_0*0_0*0_0*1_0*0",
    "Multi-hit": "0*0_1*3_1*3_0*2_0*0_1*3_0*1_0*0",
    "Saturated": "_".join(["1*3"] * 8),
}

view = Address("gradient_signals")


def fresh() -> None:
    """Forget edits: the group is drawn again."""
    st.session_state["group"] = ""
    view.push()


def resample() -> None:
    st.session_state["draw"] += 1
    fresh()


def keep_edit(before: pl.DataFrame, editor: str) -> None:
    """Put an edited group into the address."""
    changed = before.to_dicts()
    for place, cells in st.session_state[editor]["edited_rows"].items():
        changed[int(place)] |= cells
    if all(None not in row.values() for row in changed):
        view.put({"group": write_group(pl.DataFrame(changed, schema=before.schema))})


@st.cache_data(max_entries=32, show_spinner=False)
def single_moves(
    written: str, names: tuple[str, ...], draw: int, percent: float
) -> dict[str, list[dict[str, Any]]]:
    """What the linked picture is drawn from."""
    return moves(read_group(written), names, draw, percent / 100)


def edit_and_take_away() -> None:
    """The group as a table, and the same two pictures with their numbers and downloads."""
    editing, picture = st.columns([2, 3])
    with editing:
        st.caption(
            f"Edit a reward (above 0 is a hit) or how many of the {DEPTH} levels of the target's "
            "semantic ID the rollout matched."
        )
        editor = f"editor {view.arrivals} {written} {width} {percent} {draw}"
        st.data_editor(
            group,
            key=editor,
            on_change=keep_edit,
            args=(group, editor),
            hide_index=True,
            disabled=["rollout"],
            height=min(38 + 35 * group.height, 360),
            column_config={
                "rollout": st.column_config.NumberColumn("Rollout", format="R%d"),
                "reward": st.column_config.NumberColumn("Reward", required=True),
                "matched": st.column_config.SelectboxColumn(
                    "Levels matched", options=list(range(DEPTH + 1)), required=True
                ),
            },
            alt="The group: one row per rollout, with its reward and matched levels",
        )
    slots = table.drop_nulls("anchor slot")["anchor slot"]
    with picture:
        nodes, edges = tree_frames(group, draw, slots[0] if len(slots) else None)
        figure(
            charts.sid_tree(nodes, edges, DEPTH),
            nodes.filter(pl.col("kind") != "inner").drop("row"),
            name="semantic-id-tree",
            read="Every path from the root is one item. The thick branch is the target's; the "
            "later a rollout leaves it, the higher its structural score (0, .01, .1). The hardest "
            "negative is the miss that leaves last, the anchor replaces the one that leaves "
            "first.",
        )
    figure(
        charts.advantages(bars),
        bars.drop("place"),
        name="advantages",
        read="Up: the rollout becomes more likely; down: less likely; no bar: it is ignored. "
        "`anchor` marks the ground truth put into a slot, `SFT` the weight of a supervised target.",
        width="content",
    )


st.title("What does each strategy learn from one group?")
st.write(
    "**What ReCast changes.** *Repair*: a group without a hit gets the ground truth in place of "
    "its worst miss, so it can teach. *Contrast*: only one hit and its hardest miss reach the "
    "actor, so the update is 2 rows, not G. On a repaired group ReCast is `sft` plus a push "
    "against one miss: [their w(p) is one line]"
    "(learnability?strategies=grpo&strategies=recast&strategies=sft)."
)
view.presets({label: {"group": text} for label, text in PRESETS.items()})
left, middle, right = st.columns(3, vertical_alignment="bottom")
width = left.slider(
    "Rollouts per group, G", 1, 32, **view.number("width", 8, low=1, high=32) | {"on_change": fresh}
)
percent = middle.slider(
    "Hit probability (%)",
    0.0,
    100.0,
    step=0.5,
    **view.number("hit_probability", 5.0, low=0.0, high=100.0) | {"on_change": fresh},
)
draw = view.number("draw", 0, low=0, high=1_000_000)["key"]
draw = int(st.session_state[draw])
right.button("Resample the group", key="resample", on_click=resample)

written = st.session_state[view.text("group")["key"]]
try:
    group = read_group(written) if written else sample_group(width, percent / 100, draw)
except ValueError as problem:
    st.warning(f"{plain(str(problem))} The page shows a sampled group instead.")
    group = sample_group(width, percent / 100, draw)

names = st.multiselect(
    "Strategies", list(STRATEGIES), **view.some_of("strategies", list(STRATEGIES), FIRST)
)
names = charts.in_order(names)
if not names:
    st.info("Choose at least one strategy.")
    st.stop()
try:
    bars, table, refused = signal_frames(group, names, draw, percent / 100)
except ValueError as problem:
    st.error(plain(str(problem)))
    st.stop()

for name, reason in refused.items():
    st.warning(plain(f"{name} is left out: {reason}"))
if bars.is_empty():
    st.stop()

shown = [name for name in names if name not in refused]
lit = st.session_state[
    view.one_of("lit", shown, "recast" if "recast" in shown else shown[0])["key"]
]
group_picture(
    group,
    single_moves(write_group(group), tuple(names), draw, percent),
    lit,
    on_lit=lambda name: view.put({"lit": name}),
    on_moved=lambda rollout, level: view.put({"group": write_group(moved(group, rollout, level))}),
)
st.caption(
    "**How to read this.** The thick line is the target's branch; each rollout leaves it at the "
    "level up to which it matched. Choose a strategy above its bars: branches take the colour of "
    "its weight, blue is pushed up, orange down, grey not at all. A green ring marks the slot that "
    "the ground truth took. A rollout dragged to the last level is a hit, reward 1; one dragged "
    "away from it has reward 0."
)
grid(
    table,
    hide_index=True,
    width="stretch",
    placeholder="-",
    alt="Per strategy: anchor slot, rows that reach the actor, update width and signal count",
)
st.caption(
    "The group stands alone here, so `reinforce` centres on it; in a batch its baseline includes "
    "the other groups. `target` is a supervised row. Ties are broken at random."
)


def over_training() -> None:
    """What was counted in stored runs of these strategies."""
    st.header("And over a whole training run?")
    frame, source = stored_runs(data_switch(view))
    st.caption(f"Measured. Data: {plain(source)}.")
    measured = tuned_test_rows(frame)
    chosen, where = st.columns(2)
    quantity = chosen.selectbox(
        "Count",
        list(charts.COUNTS),
        format_func=charts.COUNTS.__getitem__,
        **view.one_of("quantity", list(charts.COUNTS)),
    )
    measured = measured.drop_nulls(quantity) if quantity in measured.columns else measured.clear()
    if measured.is_empty():
        st.info("No stored run has this count.")
        return
    widths = sorted(measured["group"].unique().to_list())
    shown = where.selectbox("Rollouts per group, G", widths, **view.one_of("stored_group", widths))
    measured = measured.filter(pl.col("group") == shown)
    known = set(measured["strategy"])
    counts = curve_table(
        measured.filter(
            pl.col("strategy").is_in([name for name in names if name in known] or known)
        ),
        quantity,
        "optimizer_steps",
    )
    figure(
        charts.counts_over_training(counts, quantity),
        counts,
        name="counts-over-training",
        read="Measured in stored runs of the strategies chosen above. A line is the mean over "
        "seeds, its band a 95% bootstrap interval, drawn from 5 seeds on.",
    )


view.draw_part(
    {
        "run": ("Over a whole training run", over_training),
        "table": ("Edit in a table, take pictures away", edit_and_take_away),
    }
)
