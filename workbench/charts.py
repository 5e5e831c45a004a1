"""Charts: each a pure function from a frame to an Altair chart whose title is a question.

A strategy keeps its place, colour, dash and mark in every chart, and any two strategies differ
without colour too. The description property carries the alt text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import altair as alt
import polars as pl

from recast import REGIMES
from workbench.budget import AXES

Chart: TypeAlias = alt.LayerChart | alt.FacetChart

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "pass_at_1": "Pass@1, sampled at T = 1",
        "pass_at_1_matched": "Pass@1, sampled at matched entropy",
        "greedy": "Greedy hit rate",
        "hr_at_1": "HR@1, beam search",
        "hr_at_5": "HR@5, beam search",
        "recall_at_10": "Recall@10",
        "ndcg_at_10": "NDCG@10",
        "pass_at_32": "Pass@32, sampled",
        "entropy": "Policy entropy (nats)",
    }
)

REGIME_LABELS: Mapping[str, str] = MappingProxyType(
    {
        "all_zero": "all-zero (no hit)",
        "single_hit": "single-hit",
        "multi_hit": "multi-hit",
        "saturated": "saturated (all hits)",
    }
)

PAPER_POINT: Mapping[str, float] = MappingProxyType({"mean": 0.0054, "cv": 0.89, "group": 32})
PAPER_SHARES: Mapping[str, float] = MappingProxyType(
    {"all-zero": 0.85, "single-hit": 0.13, "multi-hit + saturated": 0.02}
)

COUNTS: Mapping[str, str] = MappingProxyType(
    {
        "signal_count": "Rollouts with a gradient signal per group",
        "update_width": "Rows in the actor's update per group",
        "repaired": "Share of groups repaired",
        "learnable": "Share of groups with a signal",
    }
)


class Style(NamedTuple):
    """How a strategy looks: a hex colour, a dash pattern, a mark."""

    colour: str
    dash: list[int]
    shape: str


_SOLID, _DASHED, _DOTTED, _MIXED = [1, 0], [6, 3], [2, 2], [8, 3, 2, 3]

STYLE: Mapping[str, Style] = MappingProxyType(
    {
        "grpo": Style("#0072B2", _SOLID, "circle"),
        "dr_grpo": Style("#56B4E9", _DASHED, "circle"),
        "rloo": Style("#0072B2", _DOTTED, "square"),
        "reinforce": Style("#56B4E9", _MIXED, "square"),
        "recast": Style("#D55E00", _SOLID, "diamond"),
        "recast_random_negative": Style("#E69F00", _DASHED, "diamond"),
        "repair_only": Style("#CC79A7", _DOTTED, "triangle-up"),
        "contrast_only": Style("#CC79A7", _MIXED, "triangle-down"),
        "sft": Style("#009E73", _SOLID, "cross"),
        "grpo_sft": Style("#009E73", _DASHED, "triangle-right"),
    }
)
_OTHER = tuple(
    Style("#595959", dash, shape)
    for shape in ("triangle-left", "stroke", "circle", "square")
    for dash in (_SOLID, _DASHED, _DOTTED, _MIXED)
)
_REGIME_STYLE = tuple(
    zip(
        ("#595959", "#0072B2", "#E69F00", "#009E73"),
        (_SOLID, _DASHED, _DOTTED, _MIXED),
        strict=True,
    )
)


def regimes_by_group(frame: pl.DataFrame) -> Chart:
    """Share of groups in each regime against G, the paper's 85/13/2 at G = 32 marked.

    frame: group, regime (of `REGIMES`), share in [0, 1].
    """
    labels = [REGIME_LABELS[name] for name in REGIMES]
    named = frame.with_columns(pl.col("regime").replace_strict(dict(REGIME_LABELS)))
    lines = (
        alt.Chart(named)
        .mark_line(point=alt.OverlayMarkDef(size=25))
        .encode(
            x=alt.X("group:Q", title="Rollouts per group, G").scale(type="log", base=2),
            y=alt.Y("share:Q", title="Share of groups").axis(format="%").scale(domain=[0, 1]),
            color=alt.Color("regime:N", title="Regime").scale(
                domain=labels, range=[colour for colour, _ in _REGIME_STYLE]
            ),
            strokeDash=alt.StrokeDash("regime:N", title="Regime").scale(
                domain=labels, range=[dash for _, dash in _REGIME_STYLE]
            ),
            tooltip=["group:Q", "regime:N", alt.Tooltip("share:Q", format=".2%")],
        )
    )
    paper = pl.DataFrame(
        {
            "group": [PAPER_POINT["group"]] * len(PAPER_SHARES),
            "share": list(PAPER_SHARES.values()),
            "label": [f"paper: {share:.0%} {name}" for name, share in PAPER_SHARES.items()],
        }
    )
    marks = alt.Chart(paper).encode(x="group:Q", y="share:Q", tooltip=["label:N"])
    return _titled(
        lines
        + marks.mark_point(shape="diamond", size=140, color="black", strokeWidth=2)
        + marks.mark_text(align="left", dx=9, dy=-9, color="black").encode(text="label:N"),
        "How many groups can teach anything at this search width?",
        "Lines: share of all-zero, single-hit, multi-hit and saturated groups against the rollouts "
        "per group. Black diamonds: the paper's 85%, 13% and 2% at 32 rollouts.",
    )


def signal_counts(frame: pl.DataFrame) -> Chart:
    """Expected rollouts with a gradient signal per group, one bar per strategy.

    frame: strategy, signal_count.
    """
    order, colour, _, _ = _scales(frame)
    base = alt.Chart(frame.filter(pl.col("signal_count").is_not_nan())).encode(
        y=alt.Y("strategy:N", title=None, sort=order),
        x=alt.X("signal_count:Q", title="Expected rollouts or targets with a signal, per group"),
        tooltip=["strategy:N", alt.Tooltip("signal_count:Q", format=".3f")],
    )
    bars = base.mark_bar().encode(color=colour.legend(None))
    text = base.mark_text(align="left", dx=4).encode(text=alt.Text("signal_count:Q", format=".2f"))
    return _titled(
        bars + text,
        "How many rollouts of a group does each strategy learn from?",
        "One bar per strategy: the expected number of rollouts with a non-zero advantage, plus one "
        "for a supervised target, per group.",
    )


def advantages(frame: pl.DataFrame) -> Chart:
    """Advantage of each rollout of one group, one row of bars per strategy.

    frame: strategy, rollout (from 1), advantage.
    """
    order, colour, _, _ = _scales(frame)
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
    return _titled(
        chart,
        "Which rollouts does each strategy push up or down?",
        "One row of bars per strategy: the advantage of each rollout of the edited group; no bar "
        "means that the strategy learns nothing from that rollout.",
    )


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
    order, colour, dash, shape = _scales(frame)
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
    return _titled(
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
    _, colour, dash, shape = _scales(frame)
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
    return _titled(
        alt.layer(band, lines, *points),
        "What does each target cost?",
        "Median budget to reach each target, one line per strategy; a hollow mark means that some "
        "runs never reach it, a line ends where half of the runs or more never do.",
    )


def counts_over_training(frame: pl.DataFrame, quantity: str = "signal_count") -> Chart:
    """A measured count per group, averaged over runs, against optimizer steps.

    frame: strategy, step and the quantity (a key of `COUNTS`), one row per run x evaluation.
    """
    _, colour, dash, shape = _scales(frame)
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
    return _titled(
        base.mark_line().encode(strokeDash=dash) + points,
        "Does the learning signal grow as training goes on?",
        f"{COUNTS.get(quantity, quantity)} against training steps, mean over runs, one line per "
        "strategy.",
    )


def in_order(names: Iterable[str]) -> list[str]:
    """Strategies in their fixed order; compositions outside the registry last, by name."""
    present = set(names)
    return [name for name in STYLE if name in present] + sorted(present - set(STYLE))


def _scales(frame: pl.DataFrame) -> tuple[list[str], alt.Color, alt.StrokeDash, alt.Shape]:
    order = in_order(frame["strategy"].to_list())
    others = [name for name in order if name not in STYLE]
    chosen = [
        STYLE[name] if name in STYLE else _OTHER[others.index(name) % len(_OTHER)] for name in order
    ]
    return (
        order,
        alt.Color("strategy:N", title="Strategy")
        .scale(domain=order, range=[style.colour for style in chosen])
        .legend(symbolOpacity=1, symbolSize=90),
        alt.StrokeDash("strategy:N", title="Strategy").scale(
            domain=order, range=[style.dash for style in chosen]
        ),
        alt.Shape("strategy:N", title="Strategy").scale(
            domain=order, range=[style.shape for style in chosen]
        ),
    )


def _titled(chart: Any, question: str, description: str) -> Chart:
    titled: Chart = chart.properties(title=question, description=description)
    return titled
