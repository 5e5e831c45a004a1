"""Charts of a training under way: group regimes, and two metrics against each other."""

from __future__ import annotations

import altair as alt
import polars as pl

from recast import REGIMES
from workbench.charts.regimes import band_channels, stacked
from workbench.charts.strategy_style import in_order, scales
from workbench.charts.style import INK, Chart, titled
from workbench.charts.together import overlaid
from workbench.spec.metrics import METRICS
from workbench.stats.estimates import interval
from workbench.stats.samples import mean as average


def regimes_over_training(frame: pl.DataFrame, columns: int = 4, width: int = 130) -> Chart:
    """Shares of group regimes against optimizer steps, stacked, one panel per strategy.

    frame: strategy, step and the shares named by `REGIMES`, one row per run x evaluation.
    columns, width: panels side by side, and pixels of each.
    """
    order = in_order(frame["strategy"].to_list())
    shares = stacked(
        frame.unpivot(
            on=list(REGIMES), index=["strategy", "step"], variable_name="regime", value_name="share"
        )
        .group_by("strategy", "step", "regime", maintain_order=True)
        .agg(pl.col("share").cast(pl.Float64).mean()),
        "strategy",
    )
    areas = (
        alt.Chart(shares)
        .mark_area(stroke="white", strokeWidth=1)
        .encode(
            x=alt.X("step:Q", title="Optimizer steps").axis(tickCount=3),
            **band_channels(ticks=3),
            tooltip=[
                alt.Tooltip("strategy:N"),
                alt.Tooltip("step:Q"),
                alt.Tooltip("regime:N"),
                alt.Tooltip("share:Q", format=".2%"),
            ],
        )
        .properties(width=width, height=100)
        .facet(facet=alt.Facet("strategy:N", title=None, sort=order), columns=columns)
    )
    return titled(
        areas,
        "Does the policy leave the all-zero regime?",
        f"One panel per strategy ({', '.join(order)}): the shares of all-zero (bottom), "
        "single-hit, multi-hit and saturated (top) groups against optimizer steps, mean over "
        "seeds.",
    )


def trade_off(frame: pl.DataFrame, x: str, y: str) -> Chart:
    """Two metrics against each other as training goes on: one path per strategy, a mark at its end.

    frame: strategy, step and both metrics, one row per run x evaluation. From five seeds on the end
    carries 95% bootstrap intervals.
    """
    order, colour, dash, shape = scales(frame)
    mean = (
        frame.drop_nulls([x, y])
        .group_by("strategy", "step")
        .agg(x=pl.col(x).mean(), y=pl.col(y).mean())
        .sort("strategy", "step")
    )
    tooltip = [
        alt.Tooltip("strategy:N"),
        alt.Tooltip("step:Q"),
        alt.Tooltip("x:Q", title=METRICS[x], format=".4f"),
        alt.Tooltip("y:Q", title=METRICS[y], format=".4f"),
    ]

    def at(points: pl.DataFrame) -> alt.Chart:
        return alt.Chart(points).encode(
            x=alt.X("x:Q", title=METRICS[x]).scale(zero=False),
            y=alt.Y("y:Q", title=METRICS[y]).scale(zero=False),
            color=colour,
            tooltip=tooltip,
        )

    paths = at(mean).mark_line(point=alt.OverlayMarkDef(size=12))
    latest = _with_intervals(
        mean.filter(pl.col("step") == pl.col("step").max().over("strategy")), frame, x, y
    )
    bars = [
        alt.Chart(latest.drop_nulls(f"{along}_low"))
        .mark_rule(opacity=0.6)
        .encode(
            **{along: alt.X(f"{along}_low:Q") if along == "x" else alt.Y(f"{along}_low:Q")},
            **{f"{along}2": f"{along}_high:Q", across: f"{across}:Q"},
            color=colour,
        )
        for along, across in (("x", "y"), ("y", "x"))
    ]
    ends = at(latest).mark_point(filled=True, size=110, opacity=1).encode(shape=shape)
    start = mean.filter(pl.col("step") == 0).head(1)
    begin = (
        alt.Chart(start)
        .mark_text(text="start", color=INK, dy=14)
        .encode(x=alt.X("x:Q"), y=alt.Y("y:Q"))
    )
    return titled(
        overlaid(*bars, paths.encode(strokeDash=dash, order=alt.Order("step:Q")), ends, begin),
        "Is the gain more than sharpening?",
        f"{METRICS[y]} against {METRICS[x]}, one path per strategy ({', '.join(order)}) from the "
        "shared start to where it is now. Up and right is better on both; a path that turns down "
        "sharpens at the expense of breadth.",
    )


def _with_intervals(ends: pl.DataFrame, frame: pl.DataFrame, x: str, y: str) -> pl.DataFrame:
    """Add x_low, x_high, y_low, y_high: over the runs that are at the end of each path."""
    bounds = []
    for strategy, step in ends.select("strategy", "step").iter_rows():
        runs = frame.filter((pl.col("strategy") == strategy) & (pl.col("step") == step))
        row = {"strategy": strategy}
        for name, metric in (("x", x), ("y", y)):
            values = runs[metric].drop_nulls().cast(pl.Float64).to_numpy()
            row[f"{name}_low"], row[f"{name}_high"] = interval(values, average)
        bounds.append(row)
    numbers = dict.fromkeys(("x_low", "x_high", "y_low", "y_high"), pl.Float64)
    return ends.join(
        pl.DataFrame(bounds, schema={"strategy": pl.String, **numbers}), on="strategy", how="left"
    )
