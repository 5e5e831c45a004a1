"""The legend of lines: a strategy's dash and its mark in one symbol.

Vega dashes the outline of a legend's symbol, which frays a mark of this size. Here the dash is part
of the symbol's own shape: pieces of a line to the left and right of the mark, filled like it. Marks
in the picture have no such line, so the legend has a scale of shapes of its own.
"""

from __future__ import annotations

import re
from typing import Any

import altair as alt
import polars as pl

from workbench.charts.legend_light import units_of
from workbench.charts.together import overlaid

_HALF, _MARK, _GAP, _THICK = 17.0, 4.8, 1.4, 0.9
"""Pixels: half of the line, of the mark, between the two, half of the line's width."""
_HEIGHT = 12

_PLAIN = {
    "circle": "M-1,0C-1,-.55,-.55,-1,0,-1C.55,-1,1,-.55,1,0C1,.55,.55,1,0,1C-.55,1,-1,.55,-1,0Z",
    "square": "M-1,-1H1V1H-1Z",
    "diamond": "M-1,0L0,-1L1,0L0,1Z",
    "cross": "M-1,-.4H-.4V-1H.4V-.4H1V.4H.4V1H-.4V.4H-1Z",
    "triangle-up": "M0,-.87L-1,.87H1Z",
    "triangle-down": "M0,.87L-1,-.87H1Z",
    "triangle-right": "M.87,0L-.87,-1V1Z",
    "triangle-left": "M-.87,0L.87,-1V1Z",
}


def show_dashes(chart: Any) -> Any:
    """The chart with a legend of strategies that shows dashes as well; the chart itself, changed in
    place, where it has panels side by side. A chart whose strategies have no dash, or that has no
    legend of them, stays as it is."""
    units = [unit for unit in units_of(chart) if _is_strategy(unit, "color", alt.Color)]
    dash = next((d for u in units if (d := _is_strategy(u, "strokeDash", alt.StrokeDash))), None)
    legend = next((key for u in units if (key := u.encoding.color._get("legend"))), None)
    if dash is None or not isinstance(legend, dict):
        return chart
    shape = next((s for u in units if (s := _is_strategy(u, "shape", alt.Shape))), None)
    if shape is None:
        _stroked(units, legend)
        return chart
    tints = units[0].encoding.color._get("scale")["range"]
    for unit in units:
        for channel in (unit.encoding.color, _is_strategy(unit, "shape", alt.Shape)):
            if channel:
                channel.legend = None
    key = _key(dash._get("scale"), tints, shape._get("scale")["range"], legend)
    panels = getattr(chart, "hconcat", None)
    if isinstance(panels, list):
        panels[0] = _beside(panels[0], key)
        return chart
    return _beside(chart, key)


def _beside(chart: Any, key: alt.Chart) -> alt.LayerChart:
    """A chart and a key that has colours and shapes of its own."""
    apart = alt.Resolve(scale={"color": "independent", "shape": "independent"})
    return overlaid(chart, key, resolve=apart)


def _key(
    dash: dict[str, Any], tints: list[str], marks: list[str], legend: dict[str, Any]
) -> alt.Chart:
    """Points of no size, one per strategy, whose legend shows lines with their marks. dash: the
    scale of dashes; tints, marks: colours and marks of the same strategies."""
    order = dash["domain"]
    told = legend | {
        "symbolSize": (2 * _HALF) ** 2,
        "clipHeight": _HEIGHT,
        "description": f"Legend of {', '.join(order)}: colour, dash and mark of each strategy",
    }
    lines = [key_path(*look) for look in zip(dash["range"], marks, strict=True)]
    points: alt.Chart = (
        alt.Chart(pl.DataFrame({"strategy": order}))
        .mark_point(filled=True, size=0, aria=False)
        .encode(
            color=alt.Color(
                "strategy:N",
                title="Strategy",
                scale={"domain": order, "range": tints},
                legend=told,
            ),
            shape=alt.Shape(
                "strategy:N",
                title="Strategy",
                scale={"domain": order, "range": lines},
                legend=told,
            ),
        )
    )
    return points


def key_path(dash: list[int], mark: str) -> str:
    """A mark with pieces of a dashed line on both sides, as the SVG path of a legend's symbol that
    is 2 x 17 pixels wide. dash: pixels on and off by turns; mark: a Vega shape or a path."""
    edge = _MARK + _GAP
    pieces = []
    at = -_HALF
    for place in range(int(2 * _HALF)):
        end = at + (dash[place % len(dash)] if any(dash[1::2]) else 2 * _HALF)
        if place % 2 == 0:
            for low, high in ((-_HALF, -edge), (edge, _HALF)):
                left, right = max(at, low), min(end, high)
                if right > left:
                    pieces.append(f"M{left:.4g},{-_THICK}H{right:.4g}V{_THICK}H{left:.4g}Z")
        at = end
    whole = "".join(pieces)
    return _scaled(whole, 1 / _HALF) + _scaled(_PLAIN.get(mark, mark), _MARK / _HALF)


def _scaled(path: str, by: float) -> str:
    """A path of straight lines and curves, larger or smaller."""
    return re.sub(r"-?\d*\.?\d+", lambda number: f"{float(number[0]) * by:.4g} ", path)


def _stroked(units: list[Any], legend: dict[str, Any]) -> None:
    """Lines without marks: a piece of each line."""
    told = legend | {
        "symbolType": "stroke",
        "symbolSize": (2 * _HALF) ** 2,
        "symbolStrokeWidth": 2,
        "symbolOpacity": 1,
        "clipHeight": _HEIGHT,
    }
    for unit in units:
        colour = unit.encoding.color
        unit.encoding.color = alt.Color(
            "strategy:N", title="Strategy", scale=colour._get("scale"), legend=told
        )
        if dash := _is_strategy(unit, "strokeDash", alt.StrokeDash):
            unit.encoding.strokeDash = alt.StrokeDash(
                "strategy:N", title="Strategy", scale=dash._get("scale"), legend=told
            )


def _is_strategy(unit: Any, name: str, kind: type) -> Any:
    """A unit's channel of that name, where it tells strategies apart; None elsewhere."""
    channel = getattr(unit.encoding, name, None)
    if not isinstance(channel, kind):
        return None
    field = str(getattr(channel, "shorthand", ""))
    return channel if field in ("strategy:N", "['strategy']:N") else None
