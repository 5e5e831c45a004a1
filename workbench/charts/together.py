"""Charts of several units: on top of each other, or side by side.

Altair's own put their units together by copying each of them, whole, a few times over: while they
are made, with every property that they get, and once more when they are written down. That takes
longer than all the rest of a page. These keep the units that they are given; a parameter stays in
the unit that it was given to, which Vega-Lite reads as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt
import polars as pl
from altair.vegalite.v6.api import TopLevelMixin

_MOVED = ("width", "height")


class _Layers(alt.LayerChart):
    """Units on top of each other, not copied."""

    def __init__(self, data: Any = alt.Undefined, layer: Sequence[Any] = (), **how: Any) -> None:
        super(TopLevelMixin, self).__init__(data=data, layer=list(layer), **how)


class _Panels(alt.HConcatChart):
    """Charts side by side, not copied."""

    def __init__(self, data: Any = alt.Undefined, hconcat: Sequence[Any] = (), **how: Any) -> None:
        super(TopLevelMixin, self).__init__(data=data, hconcat=list(hconcat), **how)


def overlaid(*units: Any, **how: Any) -> alt.LayerChart:
    """Units on top of each other, the first at the bottom. how: properties of the whole.

    A size that a unit has becomes the size of the whole, as Vega-Lite wants it. Units whose own
    data are empty are left out: Vega complains of the extent of nothing.
    """
    units = tuple(unit for unit in units if not _is_empty(unit)) or units
    own = [unit.copy(deep=["encoding"]) if isinstance(unit, alt.Chart) else unit for unit in units]
    for unit in own:
        for side in _MOVED:
            if (size := unit._get(side)) is not alt.Undefined:
                how.setdefault(side, size)
                unit[side] = alt.Undefined
    return _Layers(layer=own, **how)


def _is_empty(unit: Any) -> bool:
    data = getattr(unit, "data", None)
    return isinstance(data, pl.DataFrame) and data.is_empty()


def side_by_side(*panels: Any, **how: Any) -> alt.HConcatChart:
    """Charts beside each other, from left to right. how: properties of the whole."""
    return _Panels(hconcat=panels, **how)


def fixed(channel: Callable[..., Any], value: Any) -> Any:
    """A channel with one value for all marks. channel: `alt.XValue` and the like, which say at once
    what `alt.value` leaves Altair to look up among all classes that there are."""
    return channel(value)
