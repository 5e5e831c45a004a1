"""Chart of the exact gradient study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import altair as alt
import polars as pl

from workbench.charts.style import INK, Chart, titled
from workbench.charts.together import side_by_side

DIRECTIONS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "cos_p": ("p, the hit probability", "#006AB1", "circle"),
        "cos_log_p": ("log p, supervised training", "#008A61", "cross"),
        "cos_pass_at_4": ("Pass@4", "#D24D00", "diamond"),
        "cos_arcsin_sqrt_p": ("arcsin sqrt p, GRPO's limit", "#A13DA1", "square"),
    }
)
"""Column of the table, what it is called, its colour and mark."""


def exact_directions(table: pl.DataFrame) -> Chart:
    """Cosine of each signal's expected update to the gradients of known objectives, beside its SNR.

    table: strategy, the columns of `DIRECTIONS` and snr, one row per strategy; rows without numbers
    are left out.
    """
    drawn = table.drop_nulls("cos_p")
    order = drawn["strategy"].to_list()
    names = {column: words for column, (words, _, _) in DIRECTIONS.items()}
    long = drawn.unpivot(
        on=list(DIRECTIONS), index=["strategy"], variable_name="column", value_name="cosine"
    ).with_columns(objective=pl.col("column").replace_strict(names))
    words, colours, shapes = zip(*DIRECTIONS.values(), strict=True)
    row = alt.Y("strategy:N", title=None, sort=order).axis(grid=True, labelLimit=200)
    low = math.floor(10 * min(long["cosine"].to_list(), default=0.0)) / 10
    direction = (
        alt.Chart(long)
        .mark_point(filled=True, size=70, opacity=0.9)
        .encode(
            y=row,
            x=alt.X("cosine:Q", title="Cosine to the gradient of the objective").scale(
                domain=[low, 1], nice=False
            ),
            color=alt.Color("objective:N", title="Objective")
            .scale(domain=list(words), range=list(colours))
            .legend(orient="top", columns=2, symbolOpacity=1, labelLimit=260),
            shape=alt.Shape("objective:N", title="Objective").scale(
                domain=list(words), range=list(shapes)
            ),
            tooltip=[
                alt.Tooltip("strategy:N"),
                alt.Tooltip("objective:N"),
                alt.Tooltip("cosine:Q", format=".4f"),
            ],
        )
        .properties(width=430, height=alt.Step(19))
    )
    noise = (
        alt.Chart(drawn)
        .mark_bar(color=INK)
        .encode(
            y=alt.Y("strategy:N", title=None, sort=order).axis(labels=False, ticks=False),
            x=alt.X("snr:Q", title="Signal to noise of one prompt"),
            tooltip=[alt.Tooltip("strategy:N"), alt.Tooltip("snr:Q", format=".3f")],
        )
        .properties(width=170, height=alt.Step(19))
    )
    return titled(
        side_by_side(direction, noise),
        "Which objective does each signal really climb, and how noisily?",
        "One row per strategy. Left: cosine of its exact expected update to the gradients of the "
        "hit probability, of its logarithm, of Pass@4 and of arcsin sqrt p; a mark at 1 means that "
        "the signal climbs exactly this objective. Right: length of the expected update over the "
        "standard deviation of one prompt's update; no bar where the update has no noise.",
    )
