"""Chart of the scores of a real model, one row per strategy."""

from __future__ import annotations

import altair as alt
import polars as pl

from workbench.charts.strategy_style import scales
from workbench.charts.style import INK, Chart, titled
from workbench.charts.together import fixed, overlaid
from workbench.spec.metrics import METRICS

START = "start"


def final_scores(frame: pl.DataFrame, metric: str) -> Chart:
    """Mean of a metric at the end of training with its 95% interval, the start as a rule.

    frame: strategy, seeds, the metric with `_low` and `_high` (null without an interval), one row
    per strategy; the row `start` is the model before RL.
    """
    label = METRICS.get(metric, metric)
    shown = frame.select(
        "strategy",
        "seeds",
        value=pl.col(metric).cast(pl.Float64),
        low=pl.col(f"{metric}_low").cast(pl.Float64),
        high=pl.col(f"{metric}_high").cast(pl.Float64),
    )
    begin = shown.filter(pl.col("strategy") == START)
    drawn = shown.filter(pl.col("strategy") != START)
    order, colour, _, shape = scales(drawn)
    y = alt.Y("strategy:N", title=None, sort=order).axis(labelLimit=240)
    base = alt.Chart(drawn).encode(y=y, color=colour.legend(None))
    bars = (
        alt.Chart(drawn.drop_nulls(["low", "high"]))
        .mark_rule(strokeWidth=2)
        .encode(y=y, x=alt.X("low:Q"), x2=alt.X2("high:Q"), color=colour.legend(None))
    )
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=alt.X("value:Q", title=f"{label}, after training").scale(zero=False),
        shape=shape.legend(None),
        tooltip=[
            alt.Tooltip("strategy:N"),
            *(alt.Tooltip(f"{name}:Q", format=".4f") for name in ("value", "low", "high")),
            alt.Tooltip("seeds:Q"),
        ],
    )
    layers = [bars, points]
    if begin.height:
        rule = alt.Chart(begin.with_columns(label=pl.lit("before RL"))).encode(x=alt.X("value:Q"))
        layers += [
            rule.mark_rule(color=INK, strokeDash=[3, 3]),
            rule.mark_text(align="left", dx=4, color=INK).encode(
                y=fixed(alt.YValue, -8), text=alt.Text("label:N")
            ),
        ]
    return titled(
        overlaid(*layers).properties(height=alt.Step(28)),
        "How good is a real model after each strategy?",
        f"{label} on the test split, one row per strategy ({', '.join(order)}), mean with its 95% "
        "interval; the dashed rule is the supervised model that all of them started from.",
    )
