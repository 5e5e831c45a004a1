"""What every chart says alike: labels of metrics, counts and regimes, titles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import altair as alt
import polars as pl

from workbench.charts.legend_light import light_up
from workbench.charts.line_key import show_dashes
from workbench.spec.metrics import METRICS

Chart: TypeAlias = alt.LayerChart | alt.FacetChart | alt.HConcatChart

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


INK = "#7A7A7A"
"""Grey of rules and labels: readable on a white page and on a dark one."""


REGIME_STYLE = tuple(
    zip(
        ("#676767", "#007CCF", "#B48700", "#008A61"),
        ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3]),
        strict=True,
    )
)


def log_ticks(low: float, high: float) -> list[float]:
    """1, 3, 10, 30, ... that a logarithmic axis from low to high > 0 shows; over more than three
    decades the tens alone, and where fewer than three are left 1, 2, 5, 10, ..."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = range(first, last + 1)

    def shown(*steps: int) -> list[float]:
        ticks = [float(f"{step * 10.0**place:.6g}") for place in decades for step in steps]
        return [tick for tick in ticks if 0.99 * low <= tick <= 1.01 * high]

    ticks = shown(1) if last - first > 3 else shown(1, 3)
    return ticks if len(ticks) > 2 else shown(1, 2, 5)


def few_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Evenly spaced round numbers from low to high, 0 among them: at most `most`, for low rows."""
    low, high = min(low, 0.0), max(high, 0.0)
    if not high > low:
        return [0.0]
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (size, 2 * size, 5 * size, 10 * size, 20 * size):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [float(f"{step * place:.6g}") for place in range(first, last + 1)]
    return [0.0]


def tooltip(x: str, *, title: str | None = None, value: str = "mean") -> list[alt.Tooltip]:
    """The numbers of a mark: strategy, its place on the x axis, its value and interval."""
    return [
        alt.Tooltip("strategy:N", title="Strategy"),
        alt.Tooltip(f"{x}:Q", title=title or x, format=",.4~r"),
        *(alt.Tooltip(f"{name}:Q", format=".4f") for name in (value, "low", "high") if name != x),
    ]


def titled(chart: Any, question: str, description: str) -> Chart:
    """A chart with the question it answers as its title, and a text for those who cannot see it;
    every line of a tooltip gets a name in words, and a number few digits; its legend shows dashes
    and lights up.
    Layers without a row, such as intervals of few seeds, are left out: Vega finds no extent in
    them, and a reader of screens meets a picture without a text."""
    _leave_out_empty(chart)
    _name_tooltips(chart)
    chart = show_dashes(chart)
    light_up(chart)
    chart.title, chart.description = question, description
    shown: Chart = chart
    return shown


def _leave_out_empty(chart: Any) -> None:
    for panel in getattr(chart, "hconcat", None) or ():
        _leave_out_empty(panel)
    if isinstance(chart, alt.LayerChart):
        held = [one for one in chart.layer if not _is_empty(getattr(one, "data", None))]
        chart.layer = held or chart.layer


def _is_empty(data: Any) -> bool:
    return isinstance(data, pl.DataFrame) and data.is_empty()


FIELD_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "low": "95% low",
        "high": "95% high",
        "n_runs": "Runs",
        "n_reached": "Runs that reach it",
        "p": "p, corrected",
        "lr": "Learning rate",
        "x": "Budget",
        "start.all_zero": "All-zero share at the start",
        "train.group": "Group size, G",
        "world.noise": "Noise of the world",
        "world.unlearnable": "Share of unlearnable targets",
        "code": "Semantic ID",
        "edge": "Semantic ID",
        "micro": "Micro-batch",
        "group": "Group size, G",
        "token_ratio": "Ratio of tokens",
        "runner_up": "Hardest rival",
        "ratio_to_baseline": "Ratio to the baseline",
        "hr_at_1": "HR@1",
        "mfu": "Model FLOPs utilisation",
        "peak_mib": "Peak memory, MiB",
        "label": "Run",
        "run": "Key",
        "step": "Step",
        **METRICS,
    }
)
"""What a column is called where a reader meets it; any other by its own words."""


def words_of(field: str) -> str:
    """A column's name for a reader."""
    known = FIELD_WORDS.get(field)
    return known or field.replace(".", ": ").replace("_", " ").strip().capitalize()


def _name_tooltips(chart: Any) -> None:
    for part in ("layer", "hconcat", "vconcat", "concat"):
        for one in getattr(chart, part, None) or ():
            _name_tooltips(one)
    if getattr(chart, "spec", None) is not None and hasattr(chart.spec, "to_dict"):
        _name_tooltips(chart.spec)
    encoding = getattr(chart, "encoding", None)
    told = getattr(encoding, "tooltip", None)
    if encoding is not None and isinstance(told, (list, tuple)):
        encoding.tooltip = [_named(one) for one in told]


def _named(one: Any) -> alt.Tooltip:
    """A line of a tooltip with a title, and a format where it is a number."""
    line = alt.Tooltip(one) if isinstance(one, str) else one
    field, _, kind = str(line.shorthand).rpartition(":")
    more = {"title": words_of(field)} | ({"format": ",.4~r"} if kind == "Q" else {})
    lacking = {name: told for name, told in more.items() if line._get(name) is alt.Undefined}
    if lacking:
        line = line.copy(deep=False)
        for name, told in lacking.items():
            line[name] = told
    return line
