"""A name in a legend that is pointed at, or clicked: what else the picture shows fades.

Pointing lasts as long as the pointer stays on the name, a click until a click beside the panels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

_LIT, _POINTED = "lit", "pointed"
_FADED, _FADED_TILE = 0.12, 0.4  # a tile holds words
_MARKS = ("line", "point", "area", "rule", "bar", "rect")


def light_up(chart: Any) -> None:
    """Let the chart's legend of names light up what belongs to the name under the pointer, and to
    the one that was clicked.

    Changes the chart in place. A chart without such a legend stays as it is; in facets each of them
    lights up.
    """
    units = list(units_of(chart))
    legend = next((unit for unit in units if _field(unit) and _has_legend(unit)), None)
    if legend is None or any(_names(one, "params") for one in (chart, *units)):
        return
    field = _field(legend)
    for unit in units:
        if _field(unit) == field and not _names(unit.encoding, "opacity"):
            _fade(unit)
    legend.params = [
        alt.SelectionParameter(
            name=name,
            select={"type": "point", "fields": [field]} | ends,
            bind=alt.LegendStreamBinding(legend=event),
        )
        for name, event, ends in (
            (_LIT, "click", {}),
            # Vega-Lite takes an end of its own only beside an event on the marks, and follows one
            # event late in panels side by side, which a moving pointer does not show.
            (_POINTED, "mousemove", {"on": "dblclick", "clear": "mouseout"}),
        )
    ]


def _fade(unit: Any) -> None:
    """An opacity for a mark whose name is not the one that was clicked."""
    kind = unit.mark if isinstance(unit.mark, str) else unit.mark.type
    if kind not in _MARKS:
        return
    told = None if isinstance(unit.mark, str) else unit.mark._get("opacity")
    full = float(told) if isinstance(told, (int, float)) else 1.0
    unit.encoding.opacity = alt.OpacityValue(
        value=(_FADED_TILE if kind == "rect" else _FADED) * full,
        condition={
            "test": {"and": [{"param": name, "empty": True} for name in (_LIT, _POINTED)]},
            "value": full,
        },
    )


def units_of(chart: Any) -> Iterator[Any]:
    """The single views of a chart."""
    parts = [one for kind in ("layer", "hconcat", "vconcat") for one in _names(chart, kind)]
    if (repeated := _names(chart, "spec")) and not isinstance(repeated, dict):
        yield from units_of(repeated)
    elif parts:
        for part in parts:
            yield from units_of(part)
    elif getattr(chart, "encoding", None) is not None and getattr(chart, "mark", None) is not None:
        yield chart


def _names(chart: Any, attribute: str) -> Any:
    """An attribute of a chart, () where it has none."""
    found = getattr(chart, attribute, None)
    return () if found is None or found is alt.Undefined else found


def _field(unit: Any) -> str:
    """The nominal field that colours a unit; empty without one."""
    colour = getattr(unit.encoding, "color", None)
    if not isinstance(colour, alt.Color):
        return ""
    field, _, kind = str(colour.shorthand).rpartition(":")
    return field if kind == "N" and field.isidentifier() else ""


def _has_legend(unit: Any) -> bool:
    return unit.encoding.color._get("legend") is not None
