"""Charts of what each strategy makes of a hit rate."""

from __future__ import annotations

from typing import Any, Literal

import altair as alt
import polars as pl

from workbench.charts.strategy_style import scales
from workbench.charts.style import INK, Chart, log_ticks, titled
from workbench.charts.together import fixed, overlaid, side_by_side


def _below(frame: pl.DataFrame) -> tuple[alt.Color, alt.StrokeDash, alt.Shape]:
    """Colour, dash and mark of strategies, the legend under the first of two panels."""
    _, colour, dash, shape = scales(frame)
    colour["legend"] |= {
        "orient": "bottom",
        "columns": 2,
        "columnPadding": 8,
        "labelLimit": 160,
    }
    return colour, dash, shape


def what_width_buys(frame: pl.DataFrame) -> Chart:
    """Share of groups with a signal, and rollouts per such group, against G; one line per strategy.

    frame: strategy, group, learnable in [0, 1], cost in rollouts (null: none).
    """
    colour, dash, shape = _below(frame)
    x = alt.X("group:Q", title="Rollouts per group, G").scale(type="log", base=2)
    tooltip = [
        alt.Tooltip("strategy:N"),
        alt.Tooltip("group:Q"),
        alt.Tooltip("learnable:Q", format=".2%", title="groups with a signal"),
        alt.Tooltip("cost:Q", format=",.1f", title="rollouts per such group"),
    ]

    def panel(rows: pl.DataFrame, y: alt.Y) -> alt.LayerChart:
        base = alt.Chart(rows).encode(x=x, y=y, color=colour)
        points = base.mark_point(filled=True, size=45, opacity=1).encode(
            shape=shape, tooltip=tooltip
        )
        return overlaid(base.mark_line().encode(strokeDash=dash), points, width=270, height=260)

    share = alt.Y("learnable:Q", title="Groups with a signal").axis(format="%")
    costs = frame["cost"].drop_nulls().cast(pl.Float64).to_list()
    ticks = log_ticks(min(costs), max(costs)) if costs else []
    cost = (
        alt.Y("cost:Q", title="Rollouts per group with a signal")
        .scale(type="log")
        .axis(values=ticks, format=",~g")
    )
    return titled(
        side_by_side(
            panel(frame, share.scale(domain=[0, 1])), panel(frame.drop_nulls("cost"), cost)
        ),
        "What does a wider search buy?",
        "Left: share of groups to which each strategy gives any signal, against the rollouts per "
        "group. Right: rollouts sampled per group with a signal. One line per strategy.",
    )


def weights(
    frame: pl.DataFrame,
    p_here: float,
    scale: Literal["shape", "shipped"],
    whose: str = "your p",
) -> Chart:
    """w(p) and f(p) of strategies, side by side, with a rule at the user's own p.

    frame: strategy, p, w, f, w_scaled, f_scaled. "shape": w over w at p_here, and f as a share of
    its climb; "shipped": both with each loss's own divisor. whose: what p_here is called.
    """
    shaped = scale == "shape"
    colour, dash, shape = _below(frame)
    w, f = ("w_scaled", "f_scaled") if shaped else ("w", "f")
    x = alt.X(
        "p:Q",
        title="Hit probability p of a prompt",
        scale={"type": "log", "domain": [1e-4, 1]},
        axis={"format": "~%", "values": [1e-4, 1e-3, 1e-2, 1e-1, 1]},
    )
    tooltip = [
        alt.Tooltip("strategy:N"),
        alt.Tooltip("p:Q", format=".3~%", title="hit probability p"),
        alt.Tooltip("w:Q", format=".4~r", title="weight w(p)"),
        alt.Tooltip("f:Q", format=".4~r", title="objective f(p)"),
    ]
    every = pl.int_range(pl.len()).over("strategy") % 10 == 5

    def panel(rows: pl.DataFrame, field: str, y: alt.Y) -> alt.LayerChart:
        drawn = rows.select("strategy", "p", field)  # a tooltip's numbers are for points alone
        lines = alt.Chart(drawn).mark_line(clip=True)
        lines = lines.encode(x=x, y=y, color=colour, strokeDash=dash)
        points = alt.Chart(rows.filter(every)).mark_point(
            filled=True, size=45, clip=True, opacity=1
        )
        here = alt.Chart(pl.DataFrame({"p": [p_here], "label": [f"{whose} {p_here:.2%}"]}))
        rule = here.mark_rule(color=INK, strokeDash=[2, 2]).encode(x=alt.X("p:Q"))
        text = here.mark_text(color=INK, align="left", dx=4, baseline="top").encode(
            x=alt.X("p:Q"), y=fixed(alt.YValue, 2), text=alt.Text("label:N")
        )
        points = points.encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip)
        return overlaid(lines, points, rule, text, width=270, height=280)

    positive = frame.filter(pl.col(w) > 1e-3) if shaped else frame.filter(pl.col(w) > 1e-5)
    pushes = positive[w].to_list() or [1.0]
    ticks = log_ticks(min(pushes), max(pushes))
    w_title = f"Weight w(p), 1 at {whose}" if shaped else "Weight w(p), own denominators"
    f_title = "Objective f(p), share of its climb" if shaped else "Objective f(p), f(1) = 0"
    w_axis = alt.Y(
        f"{w}:Q", title=w_title, scale={"type": "log"}, axis={"values": ticks, "format": ",~g"}
    )
    whole: dict[str, Any] = {"axis": {"format": "%"}, "scale": {"domain": [0, 1]}}
    f_axis = alt.Y(f"{f}:Q", title=f_title, **(whole if shaped else {}))
    return titled(
        side_by_side(panel(positive, w, w_axis), panel(frame.drop_nulls(f), f, f_axis)),
        "Which prompts does each strategy push, and what does it climb?",
        "Left: weight w(p) of grad log p in the expected update, against the hit probability p of "
        "a prompt, both logarithmic. Right: the objective f with slope w(p) / p. A dashed rule "
        "marks the chosen hit probability. One line per strategy.",
    )


def signal_counts(frame: pl.DataFrame) -> Chart:
    """Expected rollouts with a gradient signal per group, one bar per strategy.

    frame: strategy, signal_count.
    """
    order, colour, _, _ = scales(frame)
    base = alt.Chart(frame).encode(
        y=alt.Y("strategy:N", title=None, sort=order).axis(labelLimit=220),
        x=alt.X("signal_count:Q", title="Expected rollouts or targets with a signal, per group"),
        tooltip=[alt.Tooltip("strategy:N"), alt.Tooltip("signal_count:Q", format=".3f")],
    )
    bars = base.mark_bar().encode(color=colour.legend(None))
    text = base.mark_text(align="left", dx=4, color=INK).encode(
        text=alt.Text("signal_count:Q", format=".2f")
    )
    return titled(
        overlaid(bars, text).properties(height=alt.Step(20)),
        "How many rollouts of a group does each strategy learn from?",
        "One bar per strategy: the expected number of rollouts with a non-zero advantage, plus one "
        "for a supervised target, per group.",
    )
