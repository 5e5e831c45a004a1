"""Charts of trade-offs: fronts of two metrics, and who wins where."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from workbench.charts.strategy_style import scales
from workbench.charts.style import INK, Chart, titled, words_of
from workbench.charts.together import overlaid
from workbench.spec.metrics import METRICS


def pareto_front(frame: pl.DataFrame, x: str, y: str, matched: str) -> Chart:
    """Two metrics against each other, the strategies that nothing dominates joined by a line.

    frame: strategy, x, x_low, x_high, y, y_low, y_high (intervals null below five seeds), on_front.
    x, y: names of the metrics; matched: what all strategies have spent alike, in words.
    """
    order, colour, _, shape = scales(frame)
    base = alt.Chart(frame)
    at_x = alt.X("x:Q", title=METRICS.get(x, x)).scale(zero=False)
    at_y = alt.Y("y:Q", title=METRICS.get(y, y)).scale(zero=False)
    across = alt.Chart(frame.drop_nulls("x_low")).mark_rule(opacity=0.5)
    along = alt.Chart(frame.drop_nulls("y_low")).mark_rule(opacity=0.5)
    front = (
        alt.Chart(frame.filter("on_front").sort("x"))
        .mark_line(interpolate="step-before", color=INK, strokeDash=[4, 3])
        .encode(x=at_x, y=at_y, order=alt.Order("x:Q"))
    )
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=at_x,
        y=at_y,
        color=colour,
        shape=shape,
        tooltip=[
            alt.Tooltip("strategy:N"),
            alt.Tooltip("x:Q", format=".4f"),
            alt.Tooltip("y:Q", format=".4f"),
            alt.Tooltip("on_front:N"),
        ],
    )
    named = frame.filter(pl.col("on_front") | pl.col("strategy").is_in(["sft", "grpo", "recast"]))
    names = (
        alt.Chart(named)
        .mark_text(align="left", dx=8, dy=-6, fontSize=9, color=INK)
        .encode(x=at_x, y=at_y, text=alt.Text("strategy:N"))
    )
    return titled(
        overlaid(
            across.encode(x=alt.X("x_low:Q"), x2=alt.X2("x_high:Q"), y=at_y, color=colour),
            along.encode(x=at_x, y=alt.Y("y_low:Q"), y2=alt.Y2("y_high:Q"), color=colour),
            front,
            points,
            names,
        ),
        f"Does any strategy win on both, {matched}?",
        f"{METRICS.get(y, y)} against {METRICS.get(x, x)}, one mark per strategy "
        f"({', '.join(order)}) with 95% intervals; the dashed line joins those that no other "
        "strategy beats on both.",
    )


def phase_map(frame: pl.DataFrame, metric: str, x: str, y: str, column: str, row: str) -> Chart:
    """Which strategy wins in each cell, a name in every tile.

    frame: one row per cell: the fields named by x, y, column, row, winner (a strategy or "none")
    and margin (its lead over the runner-up, null for "none").
    """
    shown = frame.with_columns(
        pl.col(x).cast(pl.String).alias("at_x"),
        pl.col(y).cast(pl.String).alias("at_y"),
        pl.col(column).alias("at_column"),
        pl.col(row).alias("at_row"),
        pl.col("winner").alias("strategy"),
    )
    order, colour, _, _ = scales(shown)
    base = alt.Chart(shown).encode(
        x=alt.X("at_x:O", title=words_of(x), sort=_sorted(frame, x)).axis(labelAngle=0),
        y=alt.Y("at_y:O", title=words_of(y), sort=_sorted(frame, y)),
    )
    tiles = base.mark_rect(stroke="white").encode(
        color=colour.title("Winner").legend(
            orient="bottom", symbolOpacity=1, titleOpacity=1, symbolStrokeWidth=0
        ),
        tooltip=[
            alt.Tooltip("winner:N"),
            alt.Tooltip("margin:Q", format=".4f"),
            alt.Tooltip("at_x:N", title=words_of(x)),
            alt.Tooltip("at_y:N", title=words_of(y)),
        ],
    )
    names = base.mark_text(fontSize=11, fontWeight="bold", color="white").encode(
        text=alt.Text("winner:N")
    )
    longest = max((len(name) for name in order), default=0)
    across = max(66, 7 * longest + 8)  # a name stays inside its tile
    chart = (
        (tiles + names)
        .properties(width=alt.Step(across), height=150)
        .facet(
            column=_panels(alt.Column("at_column:O"), column),
            row=_panels(alt.Row("at_row:O"), row),
        )
    )
    return titled(
        chart,
        f"Which strategy wins on {METRICS.get(metric, metric)}, and where?",
        f"One tile per cell of {x}, {y}, {column} and {row}, named after the strategy "
        "that is best there with a corrected p-value below .05 against the runner-up, or none. "
        f"Winners that occur: {', '.join(order)}.",
    )


def _panels(channel: Any, field: str) -> Any:
    """A row or column of panels with its field in words; one without a field has no head."""
    if field.startswith("_"):
        return channel.title(None).header(labels=False)
    return channel.title(words_of(field))


def _sorted(frame: pl.DataFrame, name: str) -> list[str]:
    return [str(value) for value in frame[name].unique().sort().to_list()]
