"""Chart "What does knowing cost?": decision accuracy of each rung against its processor time."""

from __future__ import annotations

import altair as alt
import polars as pl

from workbench.charts.style import INK, Chart, log_ticks, titled
from workbench.charts.together import fixed, overlaid
from workbench.spec.metrics import METRICS
from workbench.spec.rungs import RUNGS

GOAL, COIN = 0.9, 0.5
_COLOURS = (
    *("#006AB1", "#D24D00", "#A13DA1", "#007652", "#C93A30"),
    *("#836200", "#676767", "#028FC8", "#8A5C22", "#C2407F", "#4B6B1F"),
)


def _marks_of(shown: pl.DataFrame) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape of each rung, the same on every chart, with one legend for both."""
    known = list(RUNGS.values())
    order = [name for name in known if name in shown["rung"].to_list()]
    order += sorted(set(shown["rung"]) - set(order))
    colours = [
        _COLOURS[(known.index(n) if n in known else i) % len(_COLOURS)] for i, n in enumerate(order)
    ]
    look = alt.Legend(labelLimit=280, symbolSize=90, symbolOpacity=1, titleOpacity=1)
    colour = alt.Color("rung:N", title="Rung", sort=order, legend=look)
    shape = alt.Shape("rung:N", title="Rung", sort=order, legend=look)
    return colour.scale(domain=order, range=colours), shape.scale(domain=order)


def do_probabilities_hold(frame: pl.DataFrame) -> Chart:
    """How often the likelier order held, against the probability that was stated for it.

    frame: rung, stated, right, low, high, pairs; several cheap rungs, one dear one.
    """
    shown = frame.with_columns(rung=pl.col("rung").replace(RUNGS))
    x = alt.X("stated:Q", title="Stated probability of the likelier order")
    x = x.scale(domain=[0.5, 1]).axis(format=".0%")
    y = alt.Y("right:Q", title="How often it held").scale(domain=[0, 1]).axis(format=".0%")
    colour, shape = _marks_of(shown)
    base = alt.Chart(shown).encode(x=x, color=colour)
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
        y=alt.Y("low:Q"), y2=alt.Y2("high:Q")
    )
    tips = [
        "rung:N",
        *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("stated", "right", "low", "high")),
        alt.Tooltip("pairs:Q", title="Pairs"),
    ]
    points = base.mark_point(filled=True, opacity=1).encode(
        y=y,
        shape=shape,
        size=alt.Size("pairs:Q", title="Pairs").scale(range=[40, 260]).legend(None),
        tooltip=tips,
    )
    even = alt.Chart(pl.DataFrame({"stated": [0.5, 1.0], "right": [0.5, 1.0]}))
    line = even.mark_line(color=INK, strokeDash=[3, 3]).encode(x=x, y=y)
    return titled(
        overlaid(line, bars, points),
        "Does a stated probability hold?",
        "Per cheap rung and tenth of stated probability: the share of pairs whose likelier order "
        "held on the dear rung, with 95% intervals. On the dashed line probabilities are true.",
    )


def what_knowing_costs(frame: pl.DataFrame, metric: str) -> Chart:
    """Decision accuracy against one dear rung, a point per cheaper rung.

    frame: cheap, dear, metric, accuracy, low, high, pairs, seconds (of one core per data set); one
    dear rung; rows without an accuracy are left out.
    """
    label = "all metrics together" if metric == "all" else METRICS.get(metric, metric)
    shown = frame.filter((pl.col("metric") == metric) & pl.col("accuracy").is_not_null())
    shown = shown.with_columns(rung=pl.col("cheap").replace(RUNGS))
    dear = RUNGS.get(str(frame["dear"][0]), str(frame["dear"][0]))
    spent = [s for s in shown["seconds"].to_list() if s and s > 0] or [1.0]
    low, high = min(spent) / 3, max(spent) * 10
    x = (
        alt.X("seconds:Q", title="Processor seconds per data set")
        .scale(type="log", domain=[low, high], nice=False)
        .axis(values=log_ticks(low, high), format="~g")
    )
    y = alt.Y("accuracy:Q", title="Decision accuracy").scale(domain=[0, 1]).axis(format=".0%")
    base = alt.Chart(shown).encode(x=x)
    tips = [
        alt.Tooltip("rung:N", title="Rung"),
        *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("accuracy", "low", "high")),
        alt.Tooltip("pairs:Q", title="Pairs"),
        alt.Tooltip("seconds:Q", title="Seconds", format=",.3~r"),
    ]
    colour, shape = _marks_of(shown)
    bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour)
    points = base.mark_point(filled=True, size=110, opacity=1).encode(
        y=y, tooltip=tips, color=colour, shape=shape
    )
    marks = pl.DataFrame({"accuracy": [GOAL, COIN], "label": ["goal: 90%", "a coin"]})
    rule = alt.Chart(marks).mark_rule(color=INK, strokeDash=[3, 3]).encode(y=alt.Y("accuracy:Q"))
    said = (
        alt.Chart(marks)
        .mark_text(align="right", dx=-4, dy=-7, color=INK)
        .encode(x=fixed(alt.XValue, "width"), y=alt.Y("accuracy:Q"), text=alt.Text("label:N"))
    )
    listed = "; ".join(
        f"{row['rung']} {row['accuracy']:.0%} for {row['seconds']:.3g} s"
        for row in shown.iter_rows(named=True)
    )
    return titled(
        overlaid(rule, said, bars, points).properties(height=280),
        "What does knowing cost?",
        f"Share of pairs of strategies, different for sure on {dear}, that a cheaper experiment "
        f"orders alike ({label}), against its processor seconds, with 95% intervals that resample "
        f"strategies and data sets: {listed or 'nothing measured'}.",
    )
