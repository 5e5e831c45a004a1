"""Sweeps: what is in the store, and starting, watching, resuming, comparing and deleting runs."""

from __future__ import annotations

import json

import polars as pl
import streamlit as st

from workbench import charts
from workbench.analysis.answers import compared
from workbench.analysis.cells import cell_labels, varying_fields
from workbench.analysis.compare import Side, compare
from workbench.analysis.tuning import PRIMARY
from workbench.errors import UserError
from workbench.jobs.started import forget, started
from workbench.jobs.sweep import Watch, check_sweep, missing, packaged, recorded
from workbench.pages.address import Address
from workbench.pages.browse import browse
from workbench.pages.figure import answer, few_seeds, figure, plain
from workbench.pages.mapping import phase_map
from workbench.pages.stored import cached_by_store, data_switch, store_folder, stored_runs
from workbench.spec.messages import validated
from workbench.spec.sweep import Sweep
from workbench.store.runs import Store

VIEWS = {
    "browse": "Browse",
    "start": "Start and watch",
    "compare": "Compare two",
    "map": "Phase map",
}


class Seat:
    """The one sweep that a browser tab may run."""

    def __init__(self) -> None:
        self.watch: Watch | None = None

    def close(self) -> None:
        if self.watch is not None:
            self.watch.close()


@st.cache_resource(scope="session", show_spinner=False, on_release=lambda seat: seat.close())
def seat() -> Seat:
    """Lives as long as the tab: closing it ends the process."""
    return Seat()


view = Address("sweeps")
if st.session_state.pop("view_wanted", None):
    st.session_state["view"] = "start"
st.title("What have I run?")
shown = st.radio(
    "View",
    list(VIEWS),
    format_func=VIEWS.__getitem__,
    horizontal=True,
    label_visibility="collapsed",
    **view.one_of("view", list(VIEWS)),
)


def finished() -> None:
    """The sweeps that ran to their end, and a way to train what they lack by now."""
    sweeps = recorded(Store(store_folder()))
    if sweeps.is_empty():
        return
    st.header("Which sweeps ran to their end?")
    st.dataframe(
        sweeps.drop("sweep"), hide_index=True, width="stretch", key="sweeps", alt="Recorded sweeps"
    )
    again = st.selectbox("Sweep", sweeps["name"].to_list(), key="again")
    row = sweeps.row(by_predicate=pl.col("name") == again, named=True)
    if st.button(
        f"Resume: train {row['missing'] + row['failed']} missing runs",
        key="resume-recorded",
        disabled=not (row["missing"] + row["failed"]) or running(),
    ):
        try:
            plan = validated(Sweep, json.loads(row["sweep"]))
        except UserError as problem:
            st.error(plain(str(problem)))
        else:
            begin(plan)


def unfinished() -> None:
    """Sweeps that were stopped or cut off, and a way to go on with each."""
    notes = started(Store(store_folder()))
    watch = seat().watch
    if watch is not None and not watch.told.over:
        mine = json.dumps(watch.plan.model_dump(mode="json"))
        notes = notes.filter(pl.col("sweep") != mine)
    if notes.is_empty():
        return
    st.header("Which sweeps were interrupted?")
    st.dataframe(
        notes.drop("sweep"), hide_index=True, width="stretch", key="started", alt="Interrupted"
    )
    st.caption("One that another tab or process is still training stands here as cut off.")
    name = st.selectbox("Interrupted sweep", notes["name"].to_list(), key="which")
    row = notes.row(by_predicate=pl.col("name") == name, named=True)
    try:
        plan = validated(Sweep, json.loads(row["sweep"]))
    except UserError as problem:
        st.error(plain(str(problem)))
        return
    with st.container(horizontal=True):
        if st.button(
            f"Resume: {row['missing']} of {row['runs']} runs are missing",
            key="resume-started",
            disabled=running(),
        ):
            begin(plan)
        if st.button("Forget it", key="forget", help="Its finished runs stay in the store."):
            forget(plan, Store(store_folder()))
            st.rerun()


def minutes(seconds: float) -> str:
    """A duration in words, rounded up."""
    if seconds < 60:
        return "less than a minute"
    return (
        f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
    )


def standing(watch: Watch) -> str:
    """How a running sweep stands: share, runs in the store, time left, rounds of further rates."""
    told = watch.told
    total, absent = missing(watch.plan, Store(watch.store))
    words = [
        f"{told.share:.0%}: {told.text}",
        f"{total - absent} of {total} runs are stored",
    ]
    left = told.left()
    if left is not None:
        words.append(f"{minutes(left)} left")
    if told.rounds > 1:
        words.append(
            f"round {told.rounds}: a best rate sat on the edge of its grid, so further rates are "
            "tried"
        )
    return "; ".join(words)


def running() -> bool:
    """Whether this tab's sweep is still at work."""
    watch = seat().watch
    return watch is not None and not watch.look().told.over


def begin(plan: Sweep) -> None:
    """Start a sweep in a process of its own and show it."""
    seat().close()
    seat().watch = Watch(plan, Store(store_folder()).prepare().root)
    st.session_state["view_wanted"] = "start"
    st.rerun()


def load_text() -> None:
    """Put a packaged sweep into the editor."""
    st.session_state["toml"] = packaged()[st.session_state["preset"]]
    view.push()


def launch() -> None:
    """Choose, edit, check and start a sweep."""
    texts = packaged()
    names = list(texts)
    first = "quick" if "quick" in texts else names[0]
    st.selectbox(
        "Start from", names, **view.one_of("preset", names, first) | {"on_change": load_text}
    )
    st.session_state.setdefault("toml", texts[st.session_state["preset"]])
    text = st.text_area("Sweep (TOML)", height=320, key="toml")
    folder = store_folder()
    try:
        plan = check_sweep(text)
        total, absent = missing(plan, Store(folder))
    except UserError as problem:
        st.error(plain(str(problem)))
        return
    cells = len({run.config["cell"] for run in plan.runs()})
    st.success(
        plain(f"Valid: {total} runs in {cells} cells, {absent} of them not yet in {folder}.")
    )
    if st.button(
        "Start" if absent == total else f"Resume: {absent} runs are missing",
        type="primary",
        icon=":material/play_arrow:",
        key="launch",
        disabled=not absent or running(),
    ):
        begin(plan)
    st.caption(
        "It runs as long as this tab is open. What is cut off is listed below and can be resumed: "
        "finished runs stay. For a long "
        "sweep save the text as a file and use `recast sweep FILE` in a terminal."
    )


def watching() -> None:
    """How this tab's sweep stands."""
    watch = seat().watch
    if watch is None:
        return
    told = watch.look().told
    if told.over == moving:
        st.rerun()
    st.header(f"Sweep {plain(watch.plan.name)}")
    match told.state:
        case "running":
            st.progress(min(told.share, 1.0), text=plain(standing(watch)))
        case "finished":
            st.success(plain(told.text))
        case "stopped":
            st.info(plain(told.text))
        case "lost":
            st.warning(plain(f"{told.text} Finished runs are in the store; resume it below."))
        case _:
            st.error(plain(told.text))
    st.button("Stop", key="stop-sweep", on_click=watch.stop, disabled=told.over or told.stopping)


def comparison(frame: pl.DataFrame) -> None:
    """Two strategies, in one cell or in two, paired by seed."""
    labels = cached_by_store(state, "labels", lambda: cell_labels(frame))
    sides = []
    for place, (column, name) in enumerate(zip(st.columns(2), ("First", "Second"), strict=True)):
        with column:
            cell = st.selectbox(
                f"{name} cell",
                list(labels),
                format_func=lambda one: labels[one],
                **view.one_of(f"cell_{place}", list(labels)),
            )
            here = frame.filter(pl.col("cell") == cell)
            known = charts.in_order(here["strategy"].unique().to_list())
            strategy = st.selectbox(
                f"{name} strategy",
                known,
                **view.one_of(f"strategy_{place}", known, known[min(1 - place, len(known) - 1)]),
            )
        sides.append((here, strategy))
    (one, first), (two, second) = sides
    both = pl.concat([one, two]) if one["cell"][0] != two["cell"][0] else one
    differing = varying_fields(both)
    metrics = [name for name in PRIMARY if name in both.columns and both[name].count()]
    try:
        table = compare(
            both,
            Side(first, {name: one[name][0] for name in differing}),
            Side(second, {name: two[name][0] for name in differing}),
            metrics,
        )
    except UserError as problem:
        st.info(plain(str(problem)))
        return
    headline = st.selectbox(
        "Headline metric",
        metrics,
        format_func=lambda name: charts.METRICS.get(name, name),
        **view.one_of("headline", metrics),
    )
    label = charts.METRICS.get(headline, headline)
    row = table.filter(pl.col("metric") == headline).row(0, named=True)
    answer(
        compared(table, first, second, headline, label),
        [
            f"Rates {first} {row['lr_first']:g} and {second} {row['lr_second']:g}: best on "
            f"{charts.METRICS.get(row['tuned_by'], row['tuned_by'])} of validation users. All test "
            f"users, after the last step. The numbers of recast compare {first} {second}."
        ],
    )
    few_seeds(int(table["n"].to_numpy().min()))
    figure(
        charts.differences(
            table.select(
                label=pl.col("metric").replace(dict(charts.METRICS)),
                setting=pl.lit(f"{first} minus {second}"),
                value="difference",
                low="low",
                high="high",
                p="p_corrected",
            ),
            f"Is {first} better than {second}, each at its own best rate?",
        ),
        table,
        name="comparison",
        read="Right of zero: the first is higher. The bar is a 95% interval over paired seeds; a "
        "hollow mark is not significant at .05 after correction over these rows.",
    )


state = data_switch(view)
own = state[0] == str(store_folder())
frame, source = stored_runs(state)
said = st.session_state.pop("said", "")
if said:
    (st.error if said.startswith("error: ") else st.success)(plain(said.removeprefix("error: ")))
moving = running()
if shown == "start":
    launch()
    st.fragment(watching, run_every=1.0 if moving else None)()
    unfinished()
elif frame.is_empty():
    st.info("Nothing yet. Start a sweep here, or run `recast run --preset quick`.")
else:
    st.caption(f"Data: {plain(source)}.")
    if shown == "browse":
        browse(view, state, frame, own=own and Store(store_folder()).has(frame["run"][0]))
        finished()
        unfinished()
    elif shown == "compare":
        comparison(frame)
    else:
        phase_map(view, state, frame)
