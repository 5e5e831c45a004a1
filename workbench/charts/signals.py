"""Charts of what each strategy makes of a group, and of its counts over training."""

from __future__ import annotations

import altair as alt
import polars as pl

from workbench.charts.strategy_style import scales
from workbench.charts.style import COUNTS, INK, Chart, few_ticks, titled
from workbench.charts.together import fixed, overlaid

_LEAVES = {
    "hit": ("#008A61", "circle"),
    "target": ("#008A61", "diamond"),
    "near miss": ("#B48700", "triangle-up"),
    "miss": ("#676767", "cross"),
}


def sid_tree(nodes: pl.DataFrame, edges: pl.DataFrame, depth: int) -> Chart:
    """A group as a prefix tree of semantic IDs; the thick branch is the target's.

    nodes, edges: as `group.tree_frames` gives them. depth: levels of an ID.
    """
    place = alt.Y("row:Q", axis=None).scale(reverse=True)
    branch = ["shared with the target", "other"]
    lines = (
        alt.Chart(edges)
        .mark_line()
        .encode(
            x=alt.X("level:Q", title="Level of the semantic ID (0: root)")
            .axis(values=list(range(depth + 1)), format="d", grid=False)
            .scale(domain=[0, depth + 2], nice=False),
            y=place,
            detail=alt.Detail("edge:N"),
            color=alt.Color("path:N", sort=branch, legend=None).scale(
                domain=branch, range=["#008A61", INK]
            ),
            strokeWidth=alt.StrokeWidth("path:N", sort=branch, legend=None).scale(
                domain=branch, range=[4, 1]
            ),
            tooltip=[alt.Tooltip("edge:N"), alt.Tooltip("path:N")],
        )
    )
    kinds = [kind for kind in _LEAVES if kind in set(nodes["kind"])]
    leaves = alt.Chart(nodes.filter(pl.col("kind") != "inner")).encode(
        x=alt.X("level:Q"),
        y=place,
        tooltip=[alt.Tooltip("code:N"), alt.Tooltip("kind:N"), alt.Tooltip("label:N")],
    )
    marks = leaves.mark_point(filled=True, size=90, opacity=1).encode(
        shape=alt.Shape("kind:N", title=None, legend=alt.Legend(orient="bottom")).scale(
            domain=kinds, range=[_LEAVES[kind][1] for kind in kinds]
        ),
        fill=alt.Fill("kind:N", title=None, legend=alt.Legend(orient="bottom")).scale(
            domain=kinds, range=[_LEAVES[kind][0] for kind in kinds]
        ),
    )
    names = leaves.mark_text(align="left", dx=9, color=INK).encode(text=alt.Text("label:N"))
    rows = nodes["row"].cast(pl.Float64).to_numpy()
    return titled(
        overlaid(lines, marks, names).properties(height=130 + 17 * (int(rows.max()) + 1)),
        "How close did each rollout come to the target?",
        "Prefix tree of the group's semantic IDs. Each leaf is an item, named by the rollouts that "
        "found it; the thick branch leads to the target, and a rollout that leaves it late is a "
        "near miss.",
    )


def advantages(frame: pl.DataFrame, width: int = 460) -> Chart:
    """Advantage of each rollout of one group, one row of bars per strategy.

    frame: strategy, slot, place (order of the slots), weight, origin (policy, anchor or
    supervised), as `microscope.signal_frames` gives. width: pixels of a row.
    """
    order, colour, _, _ = scales(frame)
    slots = frame.sort("place")["slot"].unique(maintain_order=True).to_list()
    high, gap, most = (52, 8, 4) if len(order) <= 6 else (24, 4, 2)
    weights = frame["weight"].cast(pl.Float64).to_numpy()
    # Chosen to fit their row: Vega would leave the outer two alone of a row this low.
    told = few_ticks(float(weights.min()), float(weights.max()), most)
    ticks = alt.Axis(
        values=told,
        tickCount=len(told),
        labelOverlap=False,
        labelFontSize=10 if most > 2 else 9,
        format="~g",
        grid=False,
    )
    base = alt.Chart(frame).encode(
        x=alt.X("slot:N", title="Rollout of the group", sort=slots).axis(
            labelAngle=0, labelOverlap=True, domain=False, ticks=False
        )
    )
    bars = base.mark_bar().encode(
        y=alt.Y("weight:Q", title=None, axis=ticks),
        color=colour.legend(None),
        tooltip=[
            alt.Tooltip("strategy:N"),
            alt.Tooltip("slot:N"),
            alt.Tooltip("origin:N"),
            alt.Tooltip("weight:Q", format=".3f"),
        ],
    )
    given = (
        base.transform_filter(alt.datum.origin != "policy")
        .mark_text(baseline="bottom", fontSize=10, color=INK, dy=-1)
        .encode(
            y=alt.Y("weight:Q"),
            text=alt.condition(alt.datum.origin == "anchor", alt.value("anchor"), alt.value("SFT")),
        )
    )
    zero = alt.Chart(frame).mark_rule(color=INK, aria=False).encode(y=fixed(alt.YDatum, 0))
    chart = (
        (bars + zero + given)
        .properties(width=width, height=high)
        .facet(
            row=alt.Row(
                "strategy:N", title="Advantage, or weight of a supervised target", sort=order
            ).header(labelAngle=0, labelAlign="left", labelLimit=160),
            spacing=gap,
        )
    )
    return titled(
        chart,
        "Which rollouts does each strategy push up or down?",
        f"One row of bars per strategy ({', '.join(order)}): the advantage of each rollout of the "
        "group, and the weight of a supervised target where there is one; no bar means that the "
        "strategy learns nothing from that rollout.",
    )


def counts_over_training(frame: pl.DataFrame, quantity: str = "signal_count") -> Chart:
    """A measured count per group against optimizer steps, with a band over seeds.

    frame: strategy, x (optimizer steps), mean, low, high (null without an interval), n_runs, as
    `budget.curve_table` gives; quantity: the key of `COUNTS` that was averaged.
    """
    order, colour, dash, shape = scales(frame)
    label = COUNTS.get(quantity, quantity)
    base = alt.Chart(frame).encode(
        x=alt.X("x:Q", title="Optimizer steps").axis(tickCount=8), color=colour
    )
    area = {"x": "x:Q", "y": "low:Q", "y2": "high:Q"}
    known = frame.drop_nulls(["low", "high"])
    band = alt.Chart(known).mark_area(opacity=0.18)
    lines = base.mark_line().encode(
        y=alt.Y("mean:Q", title=label).scale(domainMin=0), strokeDash=dash, order=alt.Order("x:Q")
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=alt.Y("mean:Q"),
        shape=shape,
        tooltip=[
            alt.Tooltip("strategy:N"),
            alt.Tooltip("x:Q", title="optimizer steps", format=",.0f"),
            *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("mean", "low", "high")),
            alt.Tooltip("n_runs:Q", title="runs"),
        ],
    )
    return titled(
        overlaid(*([] if known.is_empty() else [band.encode(**area, color=colour)]), lines, points),
        "Does the learning signal grow as training goes on?",
        f"{label} against optimizer steps, mean over runs with a 95% bootstrap interval, one line "
        f"per strategy ({', '.join(order)}).",
    )
