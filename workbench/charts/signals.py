"""Charts of what each strategy makes of a group, and of its counts over training."""

from __future__ import annotations

import altair as alt
import polars as pl

from workbench.charts.style import COUNTS, Chart, scales, titled


def advantages(frame: pl.DataFrame) -> Chart:
    """Advantage of each rollout of one group, one row of bars per strategy.

    frame: strategy, rollout (from 1), advantage.
    """
    order, colour, _, _ = scales(frame)
    base = alt.Chart(frame).encode(
        x=alt.X("rollout:O", title="Rollout").axis(labelAngle=0, labelOverlap=True)
    )
    bars = base.mark_bar().encode(
        y=alt.Y("advantage:Q", title=None).axis(tickCount=3),
        color=colour.legend(None),
        tooltip=["strategy:N", "rollout:O", alt.Tooltip("advantage:Q", format=".3f")],
    )
    zero = base.mark_rule(color="#595959").encode(y=alt.datum(0))
    chart = (
        (bars + zero)
        .properties(width=300, height=46)
        .facet(
            row=alt.Row("strategy:N", title="Advantage", sort=order).header(
                labelAngle=0, labelAlign="left"
            ),
            spacing=6,
        )
    )
    return titled(
        chart,
        "Which rollouts does each strategy push up or down?",
        "One row of bars per strategy: the advantage of each rollout of the edited group; no bar "
        "means that the strategy learns nothing from that rollout.",
    )


def counts_over_training(frame: pl.DataFrame, quantity: str = "signal_count") -> Chart:
    """A measured count per group, averaged over runs, against optimizer steps.

    frame: strategy, step and the quantity (a key of `COUNTS`), one row per run x evaluation.
    """
    _, colour, dash, shape = scales(frame)
    mean = (
        frame.drop_nulls(quantity)
        .group_by("strategy", "step")
        .agg(value=pl.col(quantity).mean())
        .sort("strategy", "step")
    )
    base = alt.Chart(mean).encode(
        x=alt.X("step:Q", title="Step"),
        y=alt.Y("value:Q", title=COUNTS.get(quantity, quantity)),
        color=colour,
    )
    points = base.mark_point(filled=True, size=45).encode(
        shape=shape, tooltip=["strategy:N", "step:Q", alt.Tooltip("value:Q", format=".3f")]
    )
    return titled(
        base.mark_line().encode(strokeDash=dash) + points,
        "Does the learning signal grow as training goes on?",
        f"{COUNTS.get(quantity, quantity)} against training steps, mean over runs, one line per "
        "strategy.",
    )
