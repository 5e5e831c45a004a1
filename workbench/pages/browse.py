"""The runs of a store as pages of a table: filter, order, take away, delete."""

from __future__ import annotations

import polars as pl
import streamlit as st

from workbench import charts
from workbench.analysis.cells import cell_labels, run_table
from workbench.analysis.export import csv_text
from workbench.charts.style import words_of
from workbench.errors import StoreError
from workbench.pages.address import Address
from workbench.pages.figure import grid, plain
from workbench.pages.notice import tell
from workbench.pages.run_details import details
from workbench.pages.stored import StoreState, cached_by_store, store_folder
from workbench.plurals import number_of
from workbench.store.bin import binned, restore
from workbench.store.files import sha256
from workbench.store.runs import Store

ROWS = 100


@st.dialog("Delete runs?")
def confirm(keys: list[str], named: pl.DataFrame) -> None:
    """Name what was ticked, ask once, then move it to the bin. named: their rows."""
    st.write(
        f"{len(keys):,} finished runs move from {plain(str(store_folder()))} to its bin. A sweep "
        "that needs them trains them again; Undo, or `recast store bin`, puts them back."
    )
    grid(
        named,
        hide_index=True,
        height=min(300, 35 * (named.height + 1) + 3),
        placeholder="-",
        alt="The runs that would be deleted",
    )
    sure, back = st.columns(2)
    if sure.button(f"Delete {number_of(len(keys), 'run')}", type="primary", key="delete-sure"):
        try:
            batch = Store(store_folder()).delete(keys)
            moved = len(binned(store_folder()).get(batch, ()))
            gone = len(keys) - moved  # another tab, or another program, was faster
            tell(
                f"{number_of(moved, 'run is', 'runs are')} in the bin."
                + (f" {number_of(gone, 'was', 'were')} no longer in the store." if gone else "")
            )
            st.session_state["undo"] = batch
        except StoreError as problem:
            tell(problem)
        st.rerun()
    if back.button("Keep them", key="delete-not"):
        st.rerun()


def undo() -> None:
    """Put back what was deleted last in this tab."""
    try:
        back = restore(store_folder(), st.session_state.pop("undo"))
        tell(f"{number_of(back, 'run is', 'runs are')} back.")
    except StoreError as problem:
        tell(problem)


def browse(view: Address, state: StoreState, frame: pl.DataFrame, own: bool) -> None:
    """Filter the stored runs and look at a page of them. own: they are the user's, not the
    packaged example."""
    runs = cached_by_store(state, "runs", lambda: run_table(frame))
    labels = cached_by_store(state, "labels", lambda: cell_labels(frame, words_of))
    kept = filtered(view, runs, labels)
    boxes = st.columns([2, 1, 1], vertical_alignment="bottom")
    order = boxes[0].selectbox(
        "Order by",
        runs.columns,
        format_func=words_of,
        **view.one_of("order", runs.columns),
    )
    falling = boxes[1].toggle("Largest first", **view.flag("falling"))
    pages = max(1, -(-kept.height // ROWS))
    place = boxes[2].number_input(
        f"Page, of {pages:,}", 1, pages, **view.number("page", 1, low=1, high=pages)
    )
    st.caption(
        f"{kept.height:,} of {number_of(runs.height, 'run')} in {number_of(len(labels), 'cell')}."
    )
    if kept.is_empty():
        st.info("No run fits these filters.")
        return
    if order != runs.columns[0] or falling:
        kept = kept.sort(order, descending=falling, nulls_last=True, maintain_order=True)
    shown = kept.slice((place - 1) * ROWS, ROWS)
    keys = _pick(shown)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            f"CSV of {number_of(kept.height, 'run')}",
            lambda: csv_text(kept).encode(),
            file_name="runs.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/download:",
            key="runs-csv",
        )
        everything = pages > 1 and st.checkbox(
            f"All {kept.height:,} runs that fit the filters", key="everything"
        )
        chosen = kept["run"].to_list() if everything else keys
        if st.button(
            f"Delete {len(chosen):,} selected runs" if chosen else "Delete selected runs",
            key="delete",
            disabled=not (chosen and own),
            help=None if own else "The packaged example cannot be deleted.",
        ):
            columns = [c for c in ("run", "strategy", "lr", "seed", "cell") if c in kept.columns]
            confirm(chosen, kept.filter(pl.col("run").is_in(chosen)).select(columns))
        if st.session_state.get("undo"):
            st.button("Undo the last deletion", key="undo-delete", on_click=undo)
    details(view, frame, keys, own)


def _pick(shown: pl.DataFrame) -> list[str]:
    """A page of runs as a table; the keys of those that are ticked."""
    longest = max(len(name) for name in shown["strategy"].to_list())
    with st.container(key="runs"):
        picked = grid(
            shown,
            hide_index=True,
            width="stretch",
            height=420,
            # A selection belongs to the rows that were shown, not to their places.
            key="runs-" + sha256("".join(shown["run"]).encode())[:16],
            placeholder="-",
            on_select="rerun",
            selection_mode="multi-row",
            column_config={
                # As wide as the names: compositions begin alike.
                "strategy": st.column_config.TextColumn(width=min(30 + 7 * longest, 320)),
                **{
                    name: st.column_config.NumberColumn(label, format="%.4f")
                    for name, label in charts.METRICS.items()
                    if name in shown.columns
                },
            },
            alt="One row per stored run, with its settings and its results after the last step",
        )
    return [shown["run"][row] for row in picked["selection"]["rows"] if row < shown.height]


def filtered(view: Address, runs: pl.DataFrame, labels: dict[str, str]) -> pl.DataFrame:
    """The runs that the filters of the page let through."""
    boxes = st.columns([2, 3])
    strategies = charts.in_order(runs["strategy"].unique().to_list())
    wanted = boxes[0].multiselect(
        "Strategies", strategies, placeholder="all", **view.some_of("strategies", strategies)
    )
    cells = boxes[1].multiselect(
        "Cells",
        list(labels),
        format_func=lambda cell: labels[cell],
        placeholder="all",
        **view.some_of("cells", list(labels)),
    )
    only = st.toggle("Only runs at their strategy's best learning rate", **view.flag("tuned"))
    return runs.filter(
        (pl.col("strategy").is_in(wanted) if wanted else pl.lit(True))
        & (pl.col("cell").is_in(cells) if cells else pl.lit(True))
        & (pl.col("tuned").fill_null(True) if only else pl.lit(True))
    )
