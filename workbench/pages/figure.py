"""What every picture of a page comes with: how to read it, its numbers, three downloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import altair as alt
import polars as pl
import streamlit as st

from workbench.analysis.export import csv_text
from workbench.charts.picture import AS_DRAWN, FONTS, PictureStyle, picture
from workbench.charts.style import Chart, words_of
from workbench.plurals import number_of

if TYPE_CHECKING:
    from workbench.analysis.answers import Answer


def figure(
    chart: Chart,
    numbers: pl.DataFrame,
    *,
    name: str,
    read: str,
    columns: Mapping[str, Any] | None = None,
    width: Literal["stretch", "content"] = "stretch",
) -> None:
    """Draw a chart with one line on how to read it, the numbers under it, and downloads.

    name: of the downloaded files and of the widgets, unique on the page. read: Markdown of the
    project's own, never text of a user. columns: `column_config` of the table.
    """
    draw(chart, width=width, key=f"chart-{name}")
    st.caption(f"**How to read this.** {read}")
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, kind, data in (
            ("PNG", "image/png", lambda: picture(chart, "png", look=look())),
            ("SVG", "image/svg+xml", lambda: picture(chart, "svg", look=look())),
            ("PDF", "application/pdf", lambda: picture(chart, "pdf", look=look())),
            ("CSV", "text/csv", lambda: csv_text(numbers).encode()),
        ):
            st.download_button(
                label,
                data,
                file_name=f"{name}.{label.lower()}",
                mime=kind,
                key=f"download-{name}-{label}",
                help=f"Download this picture's numbers as {label}"
                if label == "CSV"
                else f"Download this picture as {label}",
                on_click="ignore",
                type="tertiary",
                icon=":material/download:",
            )
        unfolded = st.popover(
            f"Numbers ({number_of(numbers.height, 'row')})",
            type="tertiary",
            key=f"numbers-{name}",
            on_change="rerun",
        )
        if unfolded.open:
            with unfolded:
                grid(
                    numbers,
                    hide_index=True,
                    width="stretch",
                    column_config=columns,
                    key=f"table-{name}",
                    placeholder="-",
                    alt=f"The numbers behind the picture: {', '.join(numbers.columns)}",
                )


def draw(chart: Chart, *, width: Literal["stretch", "content"], key: str) -> None:
    """A chart on the page, in its place."""
    st.altair_chart(cast(alt.LayerChart, _Fitted(chart)), width=width, key=key)


class _Fitted:
    """A chart told to fit its place where it can: panels side by side, and tiles of a fixed size,
    have a size of their own, and so have rows, which Vega would else complain of. Names on an axis
    stand beside what they name, the first and the last as well.

    Streamlit asks a chart for its specification and nothing else. It is not held against the schema
    of Vega-Lite here, which takes longer than all the rest: tests do that for every chart.
    """

    def __init__(self, chart: Chart) -> None:
        self._chart = chart

    def to_dict(self) -> dict[str, Any]:
        """The specification."""
        chart = self._chart
        spec: dict[str, Any] = chart.to_dict(validate=False)
        flush = {kind: {"labelFlush": False} for kind in ("axisDiscrete", "axisQuantitative")}
        spec["config"] = {**spec.get("config", {}), **flush}
        wide, high = (
            isinstance(getattr(chart, side, None), alt.Step) for side in ("width", "height")
        )
        if "autosize" in spec:
            return spec
        if isinstance(chart, (alt.HConcatChart, alt.FacetChart)) or wide:
            spec["autosize"] = {"type": "pad", "contains": "padding"}
        elif high:
            spec["height"] = _rows(chart) * chart.height.step
            spec["autosize"] = {"type": "fit-x", "contains": "padding"}
        return spec


def _rows(chart: Chart) -> float:
    """How many rows a chart has, by the orders that its vertical channels list; where a row holds
    several, Vega leaves a fifth of it free."""
    listed = {"y": 1, "yOffset": 0}
    for unit in getattr(chart, "layer", (chart,)):
        for name in listed:
            channel = getattr(unit.encoding, name, None)
            order = channel["sort"] if isinstance(channel, (alt.Y, alt.YOffset)) else None
            if isinstance(order, list):
                listed[name] = max(listed[name], len(order))
    return listed["y"] * (listed["yOffset"] / 0.8 if listed["yOffset"] else 1)


def look() -> PictureStyle:
    """What the sidebar asks of downloaded pictures."""
    return PictureStyle(
        **{name: st.session_state.get(f"look_{name}", getattr(AS_DRAWN, name)) for name in LOOKS}
    )


def choose_look() -> None:
    """The controls of `look`."""
    for name, words, most in LOOKS_SHOWN:
        st.number_input(words, 0, most, 0, key=f"look_{name}", help="0: as on the page")
    st.selectbox("Type", list(FONTS), key="look_font")


LOOKS = ("width", "height", "size", "font")
LOOKS_SHOWN = (
    ("width", "Width of the plot (pt)", 2000),
    ("height", "Height of the plot (pt)", 2000),
    ("size", "Type size (pt)", 40),
)


def grid(frame: pl.DataFrame, *, column_config: Mapping[str, Any] | None = None, **how: Any) -> Any:
    """`st.dataframe` with heads in words instead of names of columns, and few digits; how: its
    other arguments; column_config: for columns that need more."""
    heads: dict[str, Any] = {}
    for name, kind in frame.schema.items():
        if kind.is_float():
            heads[name] = st.column_config.NumberColumn(words_of(name), format="%.4g")
        else:
            heads[name] = st.column_config.Column(words_of(name))
    for name, told in (column_config or {}).items():
        if isinstance(told, dict) and not told.get("label"):
            told = {**told, "label": words_of(name)}
        heads[name] = told
    return st.dataframe(frame, column_config=heads, **how)


CHIPS = {
    "first": ":material/check_circle:",
    "second": ":material/cancel:",
    "open": ":material/contrast:",
}


def answer(one: Answer, more: Sequence[str] = (), *also: Answer | None) -> None:
    """The answer of a page before its pictures: a verdict, a sentence, and what goes with it.

    also: answers to what the first leaves open."""
    with st.container(border=True, key="answer"):
        for each in (one, *also):
            if each is not None:
                st.markdown(f"{CHIPS[each.tone]} **{plain(each.verdict)}.** {plain(each.sentence)}")
        for line in more:
            st.caption(plain(line))


def least_p_told(pairs: int, cells: int = 1) -> None:
    """Say the least p that so many paired seeds can show after Holm's correction over so many
    cells, and where that is never significant."""
    from workbench.stats.p_values import LEVEL, least_after_holm

    seeds, least_p = number_of(pairs, "paired seed"), least_after_holm(pairs, cells)
    corrected = f", corrected over {cells} cells" if cells > 1 else ""
    least = f"{seeds}{corrected}: no p is below {least_p:.2g}"
    if least_p >= LEVEL:
        least += (
            ", whatever the runs show: nothing here can be significant. Read the intervals, or run "
            "more seeds"
        )
    st.caption(f"{least}.")


def plain(text: str) -> str:
    """A user's text, to stand inside Markdown as it was written."""
    return "".join(
        f"\\{letter}" if letter in r"\`*_{}[]()<>#+-.!|~$:" else letter for letter in text
    )
