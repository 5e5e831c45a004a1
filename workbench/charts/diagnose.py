"""Charts of a training log: its regimes, what another G would give, what strategies would do."""

from __future__ import annotations

import altair as alt
import polars as pl

from recast import REGIMES
from workbench.charts.regimes import band_channels, stacked
from workbench.charts.strategy_style import scales
from workbench.charts.style import INK, REGIME_STYLE, Chart, log_ticks, titled
from workbench.charts.together import overlaid, side_by_side

TASKS = 8
"""Panels at most: the tasks with the most groups."""


def logged_regimes(frame: pl.DataFrame) -> Chart:
    """Shares of group regimes against the logged steps, stacked, one panel per task.

    frame: step, task, groups and the shares named by `REGIMES`, one row per task and stretch of
    steps, as `diagnose.over_training` gives.
    """
    counts = frame.group_by("task", maintain_order=True).agg(pl.col("groups").sum())
    order = counts.sort("groups", descending=True, maintain_order=True)["task"].head(TASKS)
    shares = stacked(
        frame.filter(pl.col("task").is_in(order.to_list())).unpivot(
            on=list(REGIMES),
            index=["task", "step", "groups"],
            variable_name="regime",
            value_name="share",
        ),
        "task",
    )
    base = alt.Chart(shares)
    several = frame["step"].n_unique() > 1
    marks = base.mark_area(stroke="white", strokeWidth=1) if several else base.mark_bar(size=40)
    drawn = marks.encode(
        x=alt.X("step:Q" if several else "step:O", title="Step of the log").axis(
            tickCount=5, labelAngle=0
        ),
        **band_channels(ticks=5),
        tooltip=[
            alt.Tooltip("task:N"),
            alt.Tooltip("step:Q"),
            alt.Tooltip("regime:N"),
            alt.Tooltip("share:Q", format=".1%"),
            alt.Tooltip("groups:Q", title="groups", format=","),
        ],
    )
    panels = (
        # Padded: a page that fits the whole drawing into 180 pixels leaves none for the areas.
        overlaid(drawn).properties(width=620, height=180, autosize="pad")
        if len(order) == 1
        else drawn.properties(width=270, height=180).facet(
            facet=alt.Facet("task:N", title=None, sort=order.to_list()), columns=2
        )
    )
    return titled(
        panels,
        "How many groups could teach anything, and does that change?",
        "Shares of all-zero (bottom), single-hit, multi-hit and saturated (top) groups against the "
        "steps of the log, one panel per task.",
    )


def other_widths(frame: pl.DataFrame, group: int, observed: float) -> Chart:
    """Learnable groups and rollouts per learnable group against G, with 95% bands.

    frame: group, learnable, cost and their *_low and *_high, of one task, as
    `diagnose.predictions` gives. group, observed: the log's own G and learnable share.
    """
    x = alt.X("group:Q", title="Rollouts per group, G").scale(type="log", base=2)
    blue = REGIME_STYLE[1][0]

    def panel(rows: pl.DataFrame, name: str, y: alt.Y, form: str) -> alt.LayerChart:
        base = alt.Chart(rows)
        band = base.mark_area(opacity=0.2, color=blue).encode(
            x=x, y=alt.Y(f"{name}_low:Q"), y2=alt.Y2(f"{name}_high:Q")
        )
        line = base.mark_line(color=blue, point=alt.OverlayMarkDef(size=40, color=blue)).encode(
            x=x,
            y=y,
            tooltip=[
                alt.Tooltip("group:Q"),
                *(alt.Tooltip(f"{name}{end}:Q", format=form) for end in ("", "_low", "_high")),
            ],
        )
        return overlaid(band, line)

    share = alt.Y("learnable:Q", title="Learnable groups").axis(format="%").scale(domain=[0, 1])
    known = frame.drop_nulls(["cost", "cost_low", "cost_high"])
    ends = known.select("cost_low", "cost_high").rows()
    ticks = log_ticks(min(low for low, _ in ends), max(high for _, high in ends)) if ends else []
    cost = alt.Y("cost:Q", title="Rollouts per learnable group").scale(type="log", nice=False)
    cost = cost.axis(values=ticks, format=",~g")
    here = pl.DataFrame({"group": [group], "share": [observed], "label": ["your log"]})
    mark = alt.Chart(here).encode(
        x=alt.X("group:Q"),
        y=alt.Y("share:Q"),
        tooltip=[
            alt.Tooltip("label:N"),
            alt.Tooltip("group:Q"),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    own = mark.mark_point(shape="diamond", size=140, color=INK, strokeWidth=2)
    text = mark.mark_text(align="left", dx=10, dy=10, color=INK).encode(text=alt.Text("label:N"))
    left = overlaid(panel(frame, "learnable", share, ".1%"), own, text, width=270, height=210)
    right = panel(known, "cost", cost, ",.1f").properties(width=270, height=210)
    return titled(
        side_by_side(left, right),
        "What would another G buy?",
        "Left: predicted share of groups with hits and misses both against the rollouts per group, "
        "with a 95% band; a diamond marks the log's own G. Right: rollouts sampled per such "
        "group.",
    )


def what_if(frame: pl.DataFrame) -> Chart:
    """Groups that would teach, and rows that would be updated, one bar per strategy.

    frame: strategy, learnable, update_width, as `counterfactual` gives; rows without numbers are
    left out.
    """
    rows = frame.drop_nulls("learnable")
    order, colour, _, _ = scales(rows)

    def panel(name: str, x: alt.X, form: str, axis: bool) -> alt.LayerChart:
        y = alt.Y("strategy:N", title=None, sort=order)
        base = alt.Chart(rows).encode(
            y=y.axis(labelLimit=180) if axis else y.axis(None),
            x=x,
            tooltip=[alt.Tooltip("strategy:N"), alt.Tooltip(f"{name}:Q", format=form)],
        )
        bars = base.mark_bar().encode(color=colour.legend(None))
        text = base.mark_text(align="left", dx=4, color=INK).encode(
            text=alt.Text(f"{name}:Q", format=form)
        )
        return overlaid(bars, text, width=250, height=22 * len(order))

    share = alt.X("learnable:Q", title="Groups that would teach").axis(format="%")
    width = alt.X("update_width:Q", title="Rollouts or targets updated, per group")
    return titled(
        side_by_side(
            panel("learnable", share.scale(domain=[0, 1.12]), ".0%", True),
            panel("update_width", width, ".2f", False),
        ),
        "Had another strategy been used on these groups, who would have learnt?",
        f"One bar per strategy ({', '.join(order)}). Left: share of the logged groups with any "
        "signal. Right: rollouts and supervised targets that reach the actor, per "
        "group.",
    )
