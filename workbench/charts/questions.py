"""Charts that answer a careful reader's questions about a comparison."""

from __future__ import annotations

import altair as alt
import polars as pl

from workbench.charts.strategy_style import scales
from workbench.charts.style import INK, Chart, titled, tooltip
from workbench.charts.together import overlaid, side_by_side
from workbench.spec.metrics import METRICS


def differences(frame: pl.DataFrame, title: str) -> Chart:
    """Paired differences with intervals, a rule at zero; a hollow mark means "not significant".

    frame: label, setting, value, low, high (null without an interval), p (corrected).
    """
    shown = frame.with_columns(significant=pl.col("p") < 0.05)
    y = alt.Y("label:N", title=None, sort=frame["label"].unique(maintain_order=True).to_list())
    y = y.axis(labelLimit=280)
    names = frame["setting"].unique(maintain_order=True).to_list()
    offset = alt.YOffset("setting:N", sort=names)
    colour = alt.Color("setting:N", title="Setting").scale(domain=names, scheme="dark2")
    shape = alt.Shape("setting:N", title="Setting").scale(domain=names)
    stroke = alt.Stroke("setting:N", title="Setting").scale(domain=names, scheme="dark2")
    if len(names) > 1:
        settings = colour.legend(labelLimit=280)
    else:  # the axis says it
        settings, shape, stroke = colour.legend(None), shape.legend(None), stroke.legend(None)
    axis = "Difference" if len(names) > 1 else f"Difference: {names[0]}" if names else "Difference"
    base = alt.Chart(shown).encode(y=y, yOffset=offset, color=settings)
    bars = (
        base.properties(data=shown.drop_nulls(["low", "high"]))
        .mark_rule()
        .encode(x=alt.X("low:Q"), x2=alt.X2("high:Q"))
    )
    told = [
        "label:N",
        "setting:N",
        *(alt.Tooltip(f"{c}:Q", format=".4f") for c in ("value", "low", "high", "p")),
    ]
    points = base.mark_point(filled=True, size=60, opacity=1, strokeWidth=1.5).encode(
        x=alt.X("value:Q", title=axis),
        shape=shape,
        stroke=stroke,
        fillOpacity=alt.condition("datum.significant", alt.value(1), alt.value(0)),
        tooltip=told,
    )
    zero = (
        alt.Chart(pl.DataFrame({"at": [0.0]}))
        .mark_rule(strokeDash=[4, 3], color=INK)
        .encode(x=alt.X("at:Q"))
    )
    return titled(
        overlaid(zero, bars, points).properties(height=alt.Step(14)),
        title,
        "One row per comparison: the mean difference over paired seeds with its 95% interval; a "
        "hollow mark has a corrected p-value of .05 or more.",
    )


def against_rate(frame: pl.DataFrame, metric: str) -> Chart:
    """Final metric against learning rate; the chosen rate is ringed.

    frame: strategy, lr, mean, low, high, tuned, setting.
    """
    order, colour, dash, shape = scales(frame)
    label = METRICS.get(metric, metric)
    base = alt.Chart(frame).encode(
        x=alt.X("lr:Q", title="Learning rate").scale(type="log"), color=colour
    )
    y = alt.Y("mean:Q", title=label).scale(zero=False)
    bars = (
        base.properties(data=frame.drop_nulls("low"))
        .mark_rule(opacity=0.6)
        .encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    )
    rings = base.transform_filter("datum.tuned").mark_point(size=220).encode(y=y)
    chart = overlaid(
        bars,
        base.mark_line().encode(y=y, strokeDash=dash),
        base.mark_point(filled=True, size=50, opacity=1).encode(
            y=y, shape=shape, tooltip=tooltip("lr", title="Learning rate")
        ),
        rings,
    )
    return titled(
        chart,
        "Is the order of the strategies an artefact of the learning rate?",
        f"Final {label} against the learning rate, one line per strategy ({', '.join(order)}), "
        "95% intervals over seeds; a ring marks the rate chosen on validation prompts.",
    )


def against_temperature(frame: pl.DataFrame) -> Chart:
    """Sampled Pass@1 against the sampling temperature.

    frame: strategy, temperature (> 0), mean, low, high.
    """
    order, colour, dash, shape = scales(frame)
    base = alt.Chart(frame).encode(
        x=alt.X("temperature:Q", title="Sampling temperature T").scale(type="log"), color=colour
    )
    y = alt.Y("mean:Q", title="Pass@1, sampled at T").scale(zero=False)
    band = (
        alt.Chart(frame.drop_nulls(["low", "high"]))
        .mark_area(opacity=0.15)
        .encode(x=alt.X("temperature:Q"), y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour)
    )
    return titled(
        overlaid(
            band,
            base.mark_line().encode(y=y, strokeDash=dash),
            base.mark_point(filled=True, size=45, opacity=1).encode(
                y=y, shape=shape, tooltip=tooltip("temperature", title="Temperature T")
            ),
        ),
        "Is a gain in Pass@1 more than sharpening?",
        f"Sampled Pass@1 against temperature, one line per strategy ({', '.join(order)}). A "
        "strategy that wins at T = 1 alone and not on the left has sharpened its distribution.",
    )


def against_k(frame: pl.DataFrame) -> Chart:
    """Sampled Pass@k against k, both axes logarithmic.

    frame: strategy, k, mean, low, high.
    """
    order, colour, dash, shape = scales(frame)
    base = alt.Chart(frame).encode(
        x=alt.X("k:Q", title="Samples per prompt, k").scale(type="log", base=2), color=colour
    )
    y = alt.Y("mean:Q", title="Pass@k, sampled at T = 1").scale(type="log", nice=False)
    bars = (
        base.properties(data=frame.drop_nulls("low"))
        .mark_rule(opacity=0.6)
        .encode(y=alt.Y("low:Q").scale(type="log", nice=False), y2=alt.Y2("high:Q"))
    )
    return titled(
        overlaid(
            bars,
            base.mark_line().encode(y=y, strokeDash=dash),
            base.mark_point(filled=True, size=45, opacity=1).encode(
                y=y, shape=shape, tooltip=tooltip("k", title="Samples k")
            ),
        ),
        "What does each strategy do to diversity?",
        f"Chance of a hit among k samples, one line per strategy ({', '.join(order)}). A line "
        "that starts high and ends low has bought Pass@1 with diversity.",
    )


def remaining(frame: pl.DataFrame) -> Chart:
    """What is left of diversity: one panel per measure, one row per strategy.

    frame: strategy, measure ("entropy" in nats, "coverage_at_10" as a share), mean, low, high.
    """
    order, colour, _, shape = scales(frame)
    panels = []
    for measure, label in (
        ("entropy", "Policy entropy (nats)"),
        ("coverage_at_10", "Share of the catalogue in some top ten"),
    ):
        base = (
            alt.Chart(frame)
            .transform_filter(alt.datum.measure == measure)
            .encode(y=alt.Y("strategy:N", title=None, sort=order))
        )
        bars = (
            base.properties(data=frame.filter(measure=measure).drop_nulls("low"))
            .mark_rule()
            .encode(x=alt.X("low:Q"), x2=alt.X2("high:Q"), color=colour)
        )
        points = base.mark_point(filled=True, size=70, opacity=1).encode(
            x=alt.X("mean:Q", title=label).scale(zero=True),
            color=colour,
            shape=shape,
            tooltip=tooltip("mean", title=label),
        )
        panels.append(overlaid(bars, points, width=240, height=alt.Step(24)))
    return titled(
        side_by_side(*panels),
        "How much of the catalogue is left?",
        "Entropy of the policy and share of the catalogue that some prompt ranks among "
        f"its ten most probable items, at the end of training, one row per strategy "
        f"({', '.join(order)}), with 95% intervals over seeds.",
    )


def prompt_cost(frame: pl.DataFrame) -> Chart:
    """Ratio of update tokens against prompt length, with and without a shared prompt.

    frame: prompt_tokens, encoding ("every row encodes its prompt" or "one prompt per group"),
    ratio (baseline's tokens over the pair's).
    """
    base = alt.Chart(frame).encode(
        x=alt.X("prompt_tokens:Q", title="Prompt length (tokens)").scale(type="log"),
        y=alt.Y("ratio:Q", title="Update tokens, GRPO over ReCast").scale(zero=True),
        strokeDash=alt.StrokeDash("encoding:N", title="Prompt encoding"),
        color=alt.Color("encoding:N", title="Prompt encoding").scale(scheme="dark2"),
    )
    return titled(
        overlaid(
            base.mark_line(),
            base.mark_point(filled=True, size=40, opacity=1).encode(
                shape=alt.Shape("encoding:N", title="Prompt encoding"),
                tooltip=[
                    alt.Tooltip("encoding:N"),
                    alt.Tooltip("prompt_tokens:Q"),
                    alt.Tooltip("ratio:Q", format=".2f"),
                ],
            ),
        ),
        "How much of the saved update is prompts encoded again and again?",
        "Tokens in GRPO's update over those in ReCast's against prompt length: with every row "
        "encoding its own prompt the ratio is the ratio of rows; with one prompt per group it "
        "falls towards one as prompts grow.",
    )
