"""Charts of quality against budget."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import altair as alt
import polars as pl

from workbench.analysis.budget import AXES
from workbench.charts.strategy_style import scales
from workbench.charts.style import INK, Chart, titled, tooltip
from workbench.charts.together import fixed, overlaid
from workbench.spec.metrics import METRICS

_FAR = 2.5

HEIGHT = 260
"""Of a picture in pixels, so that its page stays within three screens."""


def _height(rows: Sequence[str]) -> int:
    """Pixels of a picture with a legend of these rows: Vega cuts the title where a plot is lower
    than its legend."""
    return max(HEIGHT, 130 + 20 * len(rows))


def learning_curves(
    frame: pl.DataFrame,
    metric: str,
    axis: str,
    *,
    start: float | None = None,
    ceiling: float | None = None,
    end: float | None = None,
    free: Mapping[str, float] = MappingProxyType({}),
) -> Chart:
    """Metric against budget with a band over seeds and lines at the start and the ceiling.

    frame: strategy, x, mean, low, high (null without an interval), as `budget.curve_table` gives.
    A ceiling far above every curve is named at the top edge, so that the curves keep their height.
    free: what the strategies that spend nothing on this axis end at, each drawn as a rule.
    end: of the x axis where the curves still grow; the y axis then ends at a round number, so that
    both seldom move.
    """
    order, colour, dash, shape = scales(frame)
    label = METRICS.get(metric, metric)
    x = alt.X("x:Q", title=AXES.get(axis, axis))
    if end is not None:
        x = x.scale(domain=[0, end], nice=False)
    base = alt.Chart(frame).encode(x=x, color=colour)
    band = (
        alt.Chart(frame.drop_nulls(["low", "high"]))
        .mark_area(opacity=0.18)
        .encode(x=alt.X("x:Q"), y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour)
    )
    lines = base.mark_line().encode(
        # On one line a long name is longer than the axis and pushes the chart's own title out.
        y=alt.Y("mean:Q", title=textwrap.wrap(label, 30)).scale(
            **({"zero": False} if end is None else {"domain": [0, round_top(frame)], "nice": False})
        ),
        strokeDash=dash,
        order=alt.Order("x:Q"),
    )
    points = base.mark_point(filled=True, size=45, opacity=1).encode(
        y=alt.Y("mean:Q"),
        shape=shape,
        tooltip=[*tooltip("x", title=AXES.get(axis, axis)), alt.Tooltip("n_runs:Q")],
    )
    layers: list[alt.Chart] = [band, lines, points]
    top = max((value for value in frame["mean"].to_list() if value is not None), default=0.0)
    if ceiling is not None and ceiling > _FAR * top > 0:
        said = pl.DataFrame({"label": [f"ceiling {ceiling:.3g}, above this picture"]})
        far = alt.Chart(said).mark_text(align="left", dx=4, color=INK)
        layers.append(
            far.encode(x=fixed(alt.XValue, 0), y=fixed(alt.YValue, 8), text=alt.Text("label:N"))
        )
        ceiling = None
    layers += _levels(free, start, ceiling)
    return titled(
        overlaid(*layers).properties(height=_height(order)),
        "How good is each strategy after the same budget?",
        f"{label} against {AXES.get(axis, axis).lower()}, one line per strategy "
        f"({', '.join(order)}), band: 95% bootstrap interval over seeds. "
        "Dashed rules: the start and the ceiling; dotted: what spends nothing on this axis.",
    )


def _levels(
    free: Mapping[str, float], start: float | None, ceiling: float | None
) -> list[alt.Chart]:
    """Rules with their names: what spends nothing, the start, the ceiling."""
    layers = []
    for i, (name, level) in enumerate(sorted(free.items(), key=lambda item: -item[1])):
        # They spend nothing, so they have no place along the axis; the highest is named above its
        # rule, the others below.
        rule = alt.Chart(pl.DataFrame({"y": [level], "label": [name]})).encode(y=alt.Y("y:Q"))
        layers.append(rule.mark_rule(color=INK, strokeDash=[1, 2]))
        text = rule.mark_text(align="left", dx=4, dy=11 if i else -6, color=INK)
        layers.append(text.encode(x=fixed(alt.XValue, 0), text=alt.Text("label:N")))
    for name, value in (("start", start), ("ceiling", ceiling)):
        if value is not None:
            mark = alt.Chart(pl.DataFrame({"y": [value], "label": [name]})).encode(y=alt.Y("y:Q"))
            layers.append(mark.mark_rule(color=INK, strokeDash=[3, 3]))
            # All curves leave from the start: its name stands at their other end, below the marks.
            text = (
                mark.mark_text(align="right", dx=-4, dy=11, color=INK).encode(
                    x=fixed(alt.XValue, "width")
                )
                if name == "start"
                else mark.mark_text(align="left", dx=4, dy=-6, color=INK).encode(
                    x=fixed(alt.XValue, 0)
                )
            )
            layers.append(text.encode(text=alt.Text("label:N")))
    return layers


def round_top(frame: pl.DataFrame) -> float:
    """The least of 1, 1.5, 2, 3, 5, 7 times a power of ten that no mean or interval exceeds."""
    values = [v for name in ("mean", "high") for v in frame[name].to_list() if v is not None]
    most = max(values, default=0.0)
    if not most > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 1.5, 2, 3, 5, 7, 10) if step * power >= most)


def budget_by_target(frame: pl.DataFrame, axis: str = "rollouts") -> Chart:
    """Budget needed against the target; hollow marks where some runs never reach it.

    frame: as `budget.budget_table` gives.
    """
    order, colour, dash, shape = scales(frame)
    shown = frame.drop_nulls("median").with_columns(
        all_reach=pl.col("n_reached") == pl.col("n_runs")
    )
    base = alt.Chart(shown).encode(
        x=alt.X("target:Q", title="Target").scale(zero=False), color=colour
    )
    band = (
        alt.Chart(shown.drop_nulls(["low", "high"]))
        .mark_area(opacity=0.18)
        .encode(x=alt.X("target:Q"), y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour)
    )
    lines = base.mark_line().encode(
        y=alt.Y("median:Q", title=f"{AXES.get(axis, axis)} (median run)"), strokeDash=dash
    )
    told = ["strategy:N", "target:Q", "median:Q", "low:Q", "high:Q", "n_reached:Q", "n_runs:Q"]
    points = [
        base.mark_point(filled=filled, size=55, opacity=1)
        .transform_filter(alt.datum.all_reach == filled)
        .encode(y=alt.Y("median:Q"), shape=shape, tooltip=told)
        for filled in (True, False)
    ]
    return titled(
        overlaid(band, lines, *points).properties(height=_height(order)),
        "What does each target cost?",
        "Median budget to reach each target, one line per strategy; a hollow mark means that some "
        "runs never reach it, a line ends where half of the runs or more never do.",
    )


def waiting_curves(frame: pl.DataFrame, axis: str, target: float) -> Chart:
    """Share of runs that have not reached the target yet, against budget.

    frame: strategy, budget, waiting, n_runs, as `budget.survival_table` gives.
    """
    order, colour, dash, shape = scales(frame)
    base = alt.Chart(frame).encode(
        x=alt.X("budget:Q", title=AXES.get(axis, axis)),
        y=alt.Y("waiting:Q", title="Runs that have not reached it")
        .axis(format="%")
        .scale(domain=[0, 1]),
        color=colour,
        order=alt.Order("budget:Q"),
    )
    told = ["strategy:N", "budget:Q", alt.Tooltip("waiting:Q", format=".0%"), "n_runs:Q"]
    steps = base.mark_line(interpolate="step-after").encode(strokeDash=dash)
    points = base.mark_point(filled=True, size=40, opacity=1).encode(shape=shape, tooltip=told)
    return titled(
        overlaid(steps, points).properties(height=_height(order)),
        f"How long do runs need to reach {target:.4f}?",
        f"Kaplan-Meier curves, one per strategy ({', '.join(order)}): the share of runs still "
        f"below {target:.4f} after each budget. A curve that ends above 0 has runs that never "
        "reach it.",
    )


def budget_shares(frame: pl.DataFrame, baseline: str, paper: float | None = None) -> Chart:
    """Budget to a target over all that the baseline spends, with intervals, on a log scale.

    frame: as `budget.budget_table` gives, one target. A strategy that rarely reaches keeps its row,
    empty but for the count of runs that did; an interval without an upper end runs off to the
    right. paper: the published share, drawn as a rule.
    """
    order, colour, _, shape = scales(frame)
    y = alt.Y("strategy:N", title=None, sort=order).axis(labelLimit=240)
    least = min(
        [paper or 1.0, *frame["share_low"].drop_nulls(), *frame["share_of_baseline"].drop_nulls()]
    )
    lowest = min(0.02, max(least, 0.001) / 1.5)
    scale = alt.Scale(type="log", domain=[lowest, 2.0], clamp=True)
    ticks = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]
    shown = frame.with_columns(
        reached=pl.format("{} of {} reach it", "n_reached", "n_runs"),
        end=pl.when(pl.col("share_low").is_not_null()).then(pl.col("share_high").fill_null(2.0)),
    )
    known = shown.filter(pl.col("share_of_baseline").is_not_null())
    x = alt.X("share_of_baseline:Q", title=f"Share of all that {baseline} spends", scale=scale)
    x = x.axis(format=".2~%", values=[tick for tick in ticks if tick >= lowest])
    bars = (
        alt.Chart(shown.drop_nulls("end"))
        .mark_rule(strokeWidth=2)
        .encode(y=y, x=alt.X("share_low:Q", scale=scale), x2="end:Q", color=colour.legend(None))
    )
    points = (
        alt.Chart(known)
        .mark_point(filled=True, size=80, opacity=1)
        .encode(
            y=y,
            x=x,
            color=colour.legend(None),
            shape=shape.legend(None),
            tooltip=[
                alt.Tooltip("strategy:N"),
                alt.Tooltip("reached:N"),
                *(
                    alt.Tooltip(f"{name}:Q", format=".1%")
                    for name in ("share_of_baseline", "share_low", "share_high")
                ),
            ],
        )
    )
    counts = (
        alt.Chart(shown)
        .mark_text(align="left", dx=6, color=INK)
        .encode(y=y, x=fixed(alt.XValue, "width"), text=alt.Text("reached:N"))
    )
    marks = [(1.0, "all of it")] + ([(paper, f"paper: {paper:.1%}")] if paper else [])
    rules = alt.Chart(pl.DataFrame(marks, schema=["at", "label"], orient="row")).encode(
        x=alt.X("at:Q", scale=scale)
    )
    return titled(
        overlaid(
            rules.mark_rule(strokeDash=[4, 3], color=INK),
            rules.mark_text(align="left", dx=4, color=INK).encode(y=alt.value(-8), text="label:N"),
            bars,
            points,
            counts,
        ).properties(height=alt.Step(20)),
        "How much of the baseline's budget does each strategy need?",
        f"One row per strategy: median budget to the target over all that {baseline} spends, with "
        "the 95% bootstrap interval over seeds, and how many runs reach the target at all.",
    )


def performance_profiles(frame: pl.DataFrame, metric: str) -> Chart:
    """Share of runs above each level of a metric, with pointwise intervals.

    frame: strategy, threshold, share, low, high (null without an interval).
    """
    order, colour, dash, shape = scales(frame)
    label = METRICS.get(metric, metric)
    base = alt.Chart(frame).encode(
        x=alt.X("threshold:Q", title=label).scale(zero=False), color=colour
    )
    band = (
        alt.Chart(frame.drop_nulls(["low", "high"]))
        .mark_area(opacity=0.15)
        .encode(x=alt.X("threshold:Q"), y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour)
    )
    lines = base.mark_line().encode(
        y=alt.Y("share:Q", title="Runs above it").axis(format="%").scale(domain=[0, 1]),
        strokeDash=dash,
    )
    points = base.mark_point(filled=True, size=30, opacity=1).encode(
        y=alt.Y("share:Q"), shape=shape, tooltip=tooltip("threshold", title=label, value="share")
    )
    return titled(
        overlaid(band, lines, points),
        "How many runs end above each level?",
        f"Performance profiles of {label}, one line per strategy ({', '.join(order)}); bands are "
        "pointwise 95% bootstrap intervals over seeds.",
    )
