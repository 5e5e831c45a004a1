"""How every chart looks: a strategy's colour, dash and mark, labels of metrics, titles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import altair as alt
import polars as pl

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
REGIME_STYLE = tuple(
    zip(
        ("#595959", "#0072B2", "#E69F00", "#009E73"),
        (_SOLID, _DASHED, _DOTTED, _MIXED),
        strict=True,
    )
)


def in_order(names: Iterable[str]) -> list[str]:
    """Strategies in their fixed order; compositions outside the registry last, by name."""
    present = set(names)
    return [name for name in STYLE if name in present] + sorted(present - set(STYLE))


def scales(frame: pl.DataFrame) -> tuple[list[str], alt.Color, alt.StrokeDash, alt.Shape]:
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


def titled(chart: Any, question: str, description: str) -> Chart:
    shown: Chart = chart.properties(title=question, description=description)
    return shown
