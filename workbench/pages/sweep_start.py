"""A sweep chosen, edited, checked and started; it goes on by itself."""

from __future__ import annotations

import streamlit as st

from workbench.errors import UserError
from workbench.jobs.sweep import Watch, check_sweep, missing, packaged
from workbench.pages.address import Address
from workbench.pages.figure import plain
from workbench.pages.notice import tell
from workbench.pages.stored import store_folder
from workbench.plurals import number_of
from workbench.spec.sweep import Sweep
from workbench.store.runs import Store


def begin(view: Address, plan: Sweep) -> None:
    """Start a sweep in a process of its own and show it; inside a callback."""
    try:
        watch = Watch.start(plan, Store(store_folder()))
    except UserError as problem:
        tell(problem)
        return
    view.put({"view": "sweeps", "sweep": watch.note.name})


def launch(view: Address) -> None:
    """The editor and its button."""
    texts = packaged()
    names = list(texts)
    first = "quick" if "quick" in texts else names[0]

    def load_text() -> None:
        st.session_state["toml"] = packaged()[st.session_state["preset"]]
        view.push()

    st.selectbox(
        "Start from", names, **view.one_of("preset", names, first) | {"on_change": load_text}
    )
    kept = st.session_state.get("toml_kept", texts[st.session_state["preset"]])
    st.session_state.setdefault("toml", kept)
    text = st.text_area("Sweep (TOML)", height=320, key="toml")
    st.session_state["toml_kept"] = text  # a widget's own value is gone after a page switch
    folder = store_folder()
    try:
        plan = check_sweep(text)
        total, absent = missing(plan, Store(folder))
    except UserError as problem:
        st.error(plain(str(problem)))
        return
    cells = len({run.config["cell"] for run in plan.runs()})
    said = f"{number_of(total, 'run')} in {number_of(cells, 'cell')}"
    st.success(plain(f"Valid: {said}, {absent:,} of them not yet in {folder}."))
    st.button(
        "Start"
        if absent == total
        else f"Resume: {number_of(absent, 'run is', 'runs are')} missing",
        type="primary",
        icon=":material/play_arrow:",
        key="launch",
        disabled=not absent,
        on_click=begin,
        args=(view, plan),
    )
    st.caption(
        "It runs in a process of its own and goes on when this tab, or the server, is closed. It "
        "is listed under Sweeps with its status, can be stopped there, and resumed from what is "
        "stored."
    )
