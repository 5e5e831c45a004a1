"""Charts of quality against budget."""

from __future__ import annotations

import altair as alt
import polars as pl

from workbench.budget import AXES
from workbench.charts.style import METRICS, Chart, scales, titled


def learning_curves(
    frame: pl.DataFrame,
    metric: str,
    axis: str,
    *,
    start: float | None = None,
    ceiling: float | None = None,
) -> Chart:
    """Metric against budget with a band over seeds and lines at the start and the ceiling.

    frame: strategy, x, mean, low, high (null without an interval), as `budget.curve_table` gives.
    """
    order, colour, dash, shape = scales(frame)
    label = METRICS.get(metric, metric)
    base = alt.Chart(frame).encode(x=alt.X("x:Q", title=AXES.get(axis, axis)), color=colour)
    band = (
        alt.Chart(frame.drop_nulls(["low", "high"]))
        .mark_area(opacity=0.18)
        .encode(x="x:Q", y="low:Q", y2="high:Q", color=colour)
    )
    lines = base.mark_line().encode(
        y=alt.Y("mean:Q", title=label).scale(zero=False),
        strokeDash=dash,
        order="x:Q",
    )
    points = base.mark_point(filled=True, size=45).encode(
        y="mean:Q",
        shape=shape,
        tooltip=["strategy:N", "x:Q", alt.Tooltip("mean:Q", format=".4f"), "n_runs:Q"],
    )
    layers = [band, lines, points]
    for name, value in (("start", start), ("ceiling", ceiling)):
        if value is not None:
            mark = alt.Chart(pl.DataFrame({"y": [value], "label": [name]})).encode(y="y:Q")
            layers.append(mark.mark_rule(color="black", strokeDash=[3, 3]))
            layers.append(
                mark.mark_text(align="left", dx=4, dy=-6, color="black").encode(
                    x=alt.value(0), text="label:N"
                )
            )
    return titled(
        alt.layer(*layers),
        "How good is each strategy after the same budget?",
        f"{label} against {AXES.get(axis, axis).lower()}, one line per strategy "
        f"({', '.join(order)}), band: 95% bootstrap interval over seeds. "
        "Dashed rules: the start and the ceiling.",
    )


def budget_by_target(frame: pl.DataFrame, axis: str = "rollouts") -> Chart:
    """Budget needed against the target; hollow marks where some runs never reach it.

    frame: as `budget.budget_table` gives.
    """
    _, colour, dash, shape = scales(frame)
    shown = frame.drop_nulls("median").with_columns(
        all_reach=pl.col("n_reached") == pl.col("n_runs")
    )
    base = alt.Chart(shown).encode(
        x=alt.X("target:Q", title="Target").scale(zero=False), color=colour
    )
    band = (
        alt.Chart(shown.drop_nulls(["low", "high"]))
        .mark_area(opacity=0.18)
        .encode(x="target:Q", y="low:Q", y2="high:Q", color=colour)
    )
    lines = base.mark_line().encode(
        y=alt.Y("median:Q", title=f"{AXES.get(axis, axis)} (median run)"), strokeDash=dash
    )
    tooltip = ["strategy:N", "target:Q", "median:Q", "n_reached:Q", "n_runs:Q"]
    points = [
        base.mark_point(filled=filled, size=55, opacity=1)
        .transform_filter(alt.datum.all_reach == filled)
        .encode(y="median:Q", shape=shape, tooltip=tooltip)
        for filled in (True, False)
    ]
    return titled(
        alt.layer(band, lines, *points),
        "What does each target cost?",
        "Median budget to reach each target, one line per strategy; a hollow mark means that some "
        "runs never reach it, a line ends where half of the runs or more never do.",
    )
