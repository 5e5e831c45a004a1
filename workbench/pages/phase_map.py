"""The phase map of a store: who wins in which cell, over any two to four fields that vary."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from workbench import charts
from workbench.analysis.cells import varying_fields
from workbench.charts.style import words_of
from workbench.pages.address import Address
from workbench.pages.figure import figure, least_p_told, plain
from workbench.pages.stored import PACKAGED, StoreState, cached_by_store
from workbench.plurals import number_of
from workbench.spec.metrics import COMPARED
from workbench.studies.evidence import with_setting
from workbench.studies.packaged import Packaged, packaged
from workbench.studies.phase_map import phase_table

COMMAND = "recast sweep phase-map"


def nothing(text: str) -> None:
    """Why there is no map, and how to get one."""
    st.info(text)
    st.code(f"{COMMAND} --dry-run\n{COMMAND}", language=None, wrap_lines=True)


def phase_map(view: Address, state: StoreState, frame: pl.DataFrame) -> None:
    """Choose metric, axes, panels and what is held fixed, and draw the map."""
    if state[0] == PACKAGED and (study := packaged("phase-map")) is not None:
        shipped_map(view, study)
        return
    fields = varying_fields(frame)
    metrics = [name for name in COMPARED if name in frame.columns and frame[name].count()]
    if len(fields) < 2 or not metrics:
        nothing(
            "A phase map needs runs whose cells differ in two fields or more. This sweep fills one "
            "over sparsity, noise, search width and policy size; the first command says how long "
            "it takes."
        )
        return
    boxes = st.columns(4)
    metric = boxes[0].selectbox(
        "Metric",
        metrics,
        format_func=charts.METRICS.__getitem__,
        **view.one_of("map_metric", metrics),
    )
    across = boxes[1].selectbox(
        "Across", fields, format_func=words_of, **view.one_of("across", fields)
    )
    left = [name for name in fields if name != across]
    up = boxes[2].selectbox("Up", left, format_func=words_of, **view.one_of("up", left))
    rest = [name for name in left if name != up]
    panels = boxes[3].multiselect(
        "A panel for each",
        rest,
        max_selections=2,
        format_func=words_of,
        **view.some_of("panels", rest, rest[:2]),
    )
    here = pinned(view, frame, [name for name in rest if name not in panels])
    shown = [across, up, *panels]
    table = cached_by_store(
        state,
        f"phase map {metric} {shown} {here['cell'].unique().sort().to_list()}",
        lambda: phase_table(with_setting(here, shown), [metric], shown),
    )
    if table.is_empty():
        nothing("No cell holds two strategies with the same seeds, so nobody can win one.")
        return
    tally(table)
    drawn = table.with_columns(_column=pl.lit(""), _row=pl.lit(""))
    places = [*panels, *["_column", "_row"][len(panels) :]]
    figure(
        charts.phase_map(drawn, metric, across, up, *places),
        table,
        name="phase-map",
        read="A tile names the strategy that beats every rival there at equal budget, each at the "
        "best rate tried: p < .05 over paired seeds, corrected (Holm) over the tiles. `none`: no "
        "strategy does, which is a finding too.",
        width="content",
    )
    least_told(table)


def least_told(table: pl.DataFrame) -> None:
    """The least p that a map of so many cells and paired seeds can show."""
    pairs = table["seeds"].drop_nulls().cast(pl.Int64).to_list()
    if pairs:
        least_p_told(min(pairs), table.height)


def tally(table: pl.DataFrame) -> None:
    """How many tiles each strategy wins, in one line."""
    wins = dict(table.group_by("winner", maintain_order=True).len().rows())
    alone = wins.pop("none", 0)
    most = sorted(wins.items(), key=lambda one: -one[1])
    said = [f"{name} beats every rival in {count}" for name, count in most]
    cells = number_of(table.height, "cell")
    st.markdown(plain(f"Of {cells}: {', '.join([*said, f'nobody does in {alone}'])}."))


def shipped_map(view: Address, study: Packaged) -> None:
    """The map that the package ships: every cell of the packaged sweep."""
    table = study.tables["cells"]
    known = [name for name in COMPARED if name in table["metric"].to_list()]
    metric = st.selectbox(
        "Metric",
        known,
        format_func=charts.METRICS.__getitem__,
        **view.one_of("map_metric", known),
    )
    here = table.filter(pl.col("metric") == metric)
    fields = [name for name in table.columns if "." in name]
    tally(here)
    drawn = here.with_columns(_column=pl.lit(""), _row=pl.lit(""))
    across, up, *rest = [*fields, "_column", "_row"]
    figure(
        charts.phase_map(drawn, metric, across, up, *rest[:2]),
        here,
        name="phase-map",
        read="A tile names the strategy that beats every rival there at equal budget, each at the "
        "best rate tried: p < .05, corrected over the tiles. `none`: no strategy does. Data: "
        f"{plain(study.source)}.",
        width="content",
    )
    least_told(here)


def pinned(view: Address, frame: pl.DataFrame, fields: list[str]) -> pl.DataFrame:
    """One box for each field that is neither an axis nor a panel; the rows at the chosen values.

    A box offers what the boxes before it leave, so that no choice leads to an empty map.
    """
    for place, name in enumerate(fields):
        if place % 4 == 0:
            boxes = st.columns(4)
        values: list[Any] = frame[name].unique().sort(nulls_last=True).to_list()
        usual = frame[name].value_counts(sort=True)[name][0]
        value = boxes[place % 4].selectbox(
            words_of(name), values, **view.one_of(f"at_{name}", values, usual)
        )
        frame = frame.filter(pl.col(name).eq_missing(pl.lit(value)))
    return frame
