"""The sweeps of a store as a table: status, tags, notes; one resumed, stopped or archived."""

from __future__ import annotations

import datetime
import json
from typing import Any

import polars as pl
import streamlit as st

from workbench.errors import UserError
from workbench.jobs.started_sweeps import Note
from workbench.jobs.sweep import Watch, missing
from workbench.jobs.sweep_labels import Labels, label
from workbench.jobs.sweep_listing import listing
from workbench.pages.address import Address
from workbench.pages.figure import plain
from workbench.pages.notice import tell
from workbench.pages.stored import store_folder
from workbench.pages.sweep_start import begin
from workbench.plurals import number_of
from workbench.spec.messages import validated
from workbench.spec.sweep import Sweep
from workbench.store.files import read_regular
from workbench.store.runs import Store

EDITABLE = {"title": "title", "tags": "tags", "text": "text", "archived": "archived"}
SHOWN = (
    *("title", "status", "tags", "text", "runs", "missing", "failed"),
    *("began", "took", "archived", "strategies", "why"),
)


def lasted(seconds: float | None) -> str:
    """A duration in words."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def sweep_list(view: Address) -> None:
    """The table, and what may be done with the sweep that is chosen below it."""
    store = Store(store_folder())
    everything = listing(store)
    if everything.is_empty():
        st.info("No sweep has been started here yet. `Start` has an editor and a button.")
        return
    archived = st.toggle("Show archived sweeps", **view.flag("archived"))
    table = everything.filter(pl.lit(archived) | ~pl.col("archived"))
    if table.is_empty():
        st.info("Every sweep here is archived.")
        return
    edit(store, table)
    names = table["name"].to_list()
    titles = dict(table.select("name", pl.format("{} ({})", "title", "status")).iter_rows())
    chosen = st.selectbox(
        "Sweep", names, format_func=titles.__getitem__, **view.one_of("sweep", names)
    )
    row = table.row(by_predicate=pl.col("name") == chosen, named=True)
    one(view, store, row)


def edit(store: Store, table: pl.DataFrame) -> None:
    """The table, whose title, tags and note can be written in place."""
    shown = table.with_columns(
        began=pl.Series(
            [
                None if one is None else datetime.datetime.fromtimestamp(one)
                for one in table["began"].to_list()
            ],
            dtype=pl.Datetime,
        ),
        took=pl.Series([lasted(one) for one in table["seconds"].to_list()], dtype=pl.String),
    ).select(SHOWN)
    key = f"sweeps-{hash(tuple(table['name']))}"

    def keep() -> None:
        try:
            for place, cells in st.session_state[key]["edited_rows"].items():
                before = table.row(int(place), named=True)
                label(store, before["name"], relabelled(before, cells))
        except UserError as problem:
            tell(problem)

    column = st.column_config
    st.data_editor(
        shown,
        key=key,
        on_change=keep,
        hide_index=True,
        width="stretch",
        disabled=[name for name in SHOWN if name not in EDITABLE],
        column_config={
            "title": column.TextColumn("Name"),
            "status": column.TextColumn("Status"),
            "tags": column.ListColumn("Tags"),
            "text": column.TextColumn("Notes"),
            "runs": column.NumberColumn("Runs"),
            "missing": column.NumberColumn("Missing"),
            "failed": column.NumberColumn("Failed"),
            "began": column.DatetimeColumn("Started", format="YYYY-MM-DD HH:mm"),
            "took": column.TextColumn("Took"),
            "strategies": column.TextColumn("Strategies"),
            "why": column.TextColumn("Reason"),
            "archived": column.CheckboxColumn("Archived"),
        },
        alt="One row per sweep: name, status, tags, notes, runs, start and duration",
    )


def relabelled(before: dict[str, Any], cells: dict[str, Any]) -> Labels:
    """The labels of a row after its cells were edited."""
    now = {name: before[name] for name in EDITABLE} | {
        name: value for name, value in cells.items() if name in EDITABLE
    }
    own = json.loads(before["sweep"]).get("name")
    title = str(now["title"] or "")
    tags = tuple(dict.fromkeys(str(tag) for tag in now["tags"] or ()))
    return Labels(
        "" if title == own else title, tags, str(now["text"] or ""), bool(now["archived"])
    )


def one(view: Address, store: Store, row: dict[str, Any]) -> None:
    """How the chosen sweep stands, its log, and its buttons."""
    note = Note(store.root, row["name"])
    try:
        plan = validated(Sweep, json.loads(row["sweep"]))
    except UserError as problem:
        st.error(plain(str(problem)))
        return
    going = row["status"] == "running"
    watch = watched(note)
    if watch is not None:
        st.fragment(standing, run_every=1.0 if going else None)(watch, plan, going)
    absent = row["missing"] + (row["failed"] if row["status"] == "finished" else 0)
    with st.container(horizontal=True):
        st.button(
            f"Resume: {absent:,} of {number_of(row['runs'], 'run')} missing",
            key="resume-sweep",
            disabled=going or not absent,
            on_click=begin,
            args=(view, plan),
        )
        end = note.stop if watch is None else watch.stop
        st.button("Stop", key="stop-sweep", disabled=not going, on_click=end)
        labels = Labels("", tuple(row["tags"]), row["text"], not row["archived"])
        st.button(
            "Take out of the archive" if row["archived"] else "Archive",
            key="archive-sweep",
            on_click=archive,
            args=(store, row, labels),
        )
        if row["status"] in ("stopped", "cut off", "refused"):
            st.button(
                "Forget it", key="forget", on_click=note.forget, help="Its finished runs stay."
            )
    with st.expander("Its specification"):
        st.code(json.dumps(json.loads(row["sweep"]), indent=1), language="json")
    if note.journal.exists():
        with st.expander("Its log"):
            st.code(tail(note), language=None, wrap_lines=True)


def archive(store: Store, row: dict[str, Any], labels: Labels) -> None:
    """Put a sweep away, or take it back."""
    own = json.loads(row["sweep"]).get("name")
    title = "" if row["title"] == own else row["title"]
    try:
        label(store, row["name"], Labels(title, labels.tags, labels.text, labels.archived))
    except UserError as problem:
        tell(problem)


def watched(note: Note) -> Watch | None:
    """What this tab has read of a sweep's journal so far; None for one without a journal."""
    if not note.journal.exists():
        return None
    kept: dict[str, Watch] = st.session_state.setdefault("_watched", {})
    found = kept.get(note.name)
    if found is None or (found.told.over and note.alive):
        found = kept[note.name] = Watch(note)
    return found


def standing(watch: Watch, plan: Sweep, going: bool) -> None:
    """How a sweep stands, from its journal."""
    told = watch.look().told
    if told.over and going:
        st.rerun()  # the whole page: its row and its buttons have changed
    match told.state:
        case "running":
            st.progress(min(told.share, 1.0), text=plain(progress(watch, plan)))
        case "finished":
            st.success(plain(told.text))
        case "stopped":
            st.info(plain(told.text))
        case "lost":
            st.warning(plain(f"{told.text} Resume goes on from them."))
        case _:
            st.error(plain(told.text))


def progress(watch: Watch, plan: Sweep) -> str:
    """Share, runs in the store, time left, rounds of further rates."""
    told = watch.told
    total, absent = missing(plan, Store(watch.note.store))
    words = [
        f"{told.share:.0%}: {told.text}",
        f"{total - absent:,} of {number_of(total, 'run')} stored",
    ]
    left = told.left()
    if left is not None:
        words.append(f"about {lasted(left)} left")
    if told.rounds > 1:
        words.append(
            f"round {told.rounds}: a best rate sat on the edge of its grid, so further rates are "
            "tried"
        )
    return "; ".join(words)


def tail(note: Note, lines: int = 40) -> str:
    """The last lines of a journal."""
    try:
        text = read_regular(note.journal).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
    return "\n".join(text.splitlines()[-lines:])
