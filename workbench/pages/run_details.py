"""Runs that were picked: curves one over the other, what each spent, in what they differ."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import streamlit as st

from workbench import charts
from workbench.analysis.runs import labelled, ledger, settings
from workbench.errors import UserError
from workbench.pages.address import Address
from workbench.pages.figure import figure, grid, plain
from workbench.pages.stored import store_folder
from workbench.report.selection import notebook, selection_report
from workbench.store.encoding import config_of
from workbench.store.runs import Store

MOST = 24
HEADS = {
    "label": "Run",
    "step": "Steps",
    "rollouts": "Rollouts",
    "scored_rows": "Rows scored",
    "updated_rows": "Rows updated",
    "optimizer_steps": "Updates",
    "labels": "Labels",
    "skipped_prompts": "Prompts skipped",
    "run": "Key",
}


def details(view: Address, frame: pl.DataFrame, picked: Sequence[str], own: bool) -> None:
    """Everything about the runs that are ticked and those that are pinned. own: they lie in the
    app's own store."""
    known = set(frame["run"])
    key = view.text("pins", longest=MOST * 40)["key"]
    pins = [one for one in st.session_state[key].split(",") if one in known][:MOST]
    keys = list(dict.fromkeys([*pins, *picked]))[:MOST]
    if not keys:
        st.caption("Tick runs for their curves, ledger, settings and log; pin them to compare.")
        return
    st.header(f"How did {'this run' if len(keys) == 1 else f'these {len(keys)} runs'} go?")
    with st.container(horizontal=True, vertical_alignment="center"):
        fresh = [one for one in picked if one not in pins]
        st.button(
            f"Pin {len(fresh)} ticked",
            key="pin",
            icon=":material/keep:",
            disabled=not fresh,
            on_click=view.put,
            args=({"pins": ",".join([*pins, *fresh][:MOST])},),
        )
        st.button(
            f"Unpin {len(pins)}",
            key="unpin",
            icon=":material/keep_off:",
            disabled=not pins,
            on_click=view.put,
            args=({"pins": ""},),
        )
        take_away(frame, keys, own)
    rows = labelled(frame, keys)
    metrics = [name for name in charts.METRICS if name in rows.columns and rows[name].count()]
    metric = st.selectbox(
        "Metric of the curves",
        metrics,
        format_func=charts.METRICS.__getitem__,
        **view.one_of("curve", metrics),
    )
    figure(
        charts.run_curves(rows, metric, pins),
        rows.select("label", "step", metric, "run"),
        name="run-curves",
        read="One line per run, on the test users of the learning curves; pinned runs are thick.",
    )
    grid(
        ledger(frame, keys),
        hide_index=True,
        width="stretch",
        column_config={name: st.column_config.Column(head) for name, head in HEADS.items()},
        alt="What each run has spent at its end",
    )
    specification(frame, keys)
    if own:
        log(keys)


def take_away(frame: pl.DataFrame, keys: Sequence[str], own: bool) -> None:
    """A report and a notebook of these runs."""
    source = f"Runs of {store_folder()}" if own else "Runs of the packaged example or another store"

    def report() -> bytes:
        try:
            return selection_report(frame, keys, source).encode()
        except UserError as problem:
            return str(problem).encode()

    st.download_button(
        "Report",
        report,
        file_name="runs.html",
        mime="text/html",
        key="selection-report",
        on_click="ignore",
        icon=":material/description:",
        help="One self-contained HTML file of these runs",
    )
    st.download_button(
        "Open in a notebook",
        lambda: notebook(keys, store_folder().absolute() if own else None).encode(),
        file_name="runs.ipynb",
        mime="application/x-ipynb+json",
        key="selection-notebook",
        on_click="ignore",
        icon=":material/book:",
        help="A Jupyter notebook that opens these runs and draws these curves",
    )


def specification(frame: pl.DataFrame, keys: Sequence[str]) -> None:
    """In what the runs differ, and every setting of them."""
    told = dict(labelled(frame, keys).unique("run").select("run", "label").iter_rows())
    names = {key: f"{told.get(key, '')} ({key[:6]})" for key in keys}
    heads = {name: st.column_config.Column(name) for name in names.values()}
    if len(keys) > 1:
        st.subheader("In what do they differ?")
        differing = settings(frame, keys, differing=True).rename(names, strict=False)
        grid(
            differing,
            hide_index=True,
            width="stretch",
            column_config=heads,
            alt="Settings in which these runs differ, one column per run",
        )
    with st.expander("Every setting"):
        grid(
            settings(frame, keys, differing=False).rename(names, strict=False),
            hide_index=True,
            width="stretch",
            column_config=heads,
            alt="Every setting of these runs",
        )


def log(keys: Sequence[str]) -> None:
    """What is written beside the results in each run's file."""
    store = Store(store_folder())
    found = store.contents(keys).good
    with st.expander("Log: who made these runs, and how long it took"):
        for key in keys:
            if key in found:
                _, provenance = config_of(found[key][0])
                said = ", ".join(f"{name} {value}" for name, value in provenance.items() if value)
                st.markdown(f"`{key[:10]}` {plain(said)}")
