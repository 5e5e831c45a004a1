"""Sweeps: what is stored; starting, watching, resuming, comparing and deleting."""

from __future__ import annotations

import streamlit as st

from workbench.pages.address import Address
from workbench.pages.browse import browse
from workbench.pages.comparison import comparison
from workbench.pages.figure import plain
from workbench.pages.notice import show_notice
from workbench.pages.parallel_coordinates import parallel_coordinates
from workbench.pages.phase_map import phase_map
from workbench.pages.stored import PACKAGED, data_switch, store_folder, stored_runs
from workbench.pages.sweep_list import sweep_list
from workbench.pages.sweep_start import launch
from workbench.store.runs import Store

VIEWS = {
    "browse": "Runs",
    "sweeps": "Sweeps",
    "start": "Start",
    "compare": "Compare two",
    "rates": "Settings and results",
    "map": "Phase map",
}
TITLES = {
    "browse": "What has been run?",
    "sweeps": "Which sweeps are there, and how do they stand?",
    "start": "What should be run?",
    "compare": "Is one strategy better than another?",
    "rates": "Which settings lead where?",
    "map": "Who wins where?",
}

view = Address("sweeps")
wanted = view.one_of("view", list(VIEWS))
st.title(TITLES[st.session_state[wanted["key"]]])
shown = st.radio(
    "View",
    list(VIEWS),
    format_func=VIEWS.__getitem__,
    horizontal=True,
    label_visibility="collapsed",
    **wanted,
)
show_notice()
if shown == "start":
    launch(view)
elif shown == "sweeps":
    sweep_list(view)
else:
    state = data_switch(view)
    frame, source = stored_runs(state)
    if frame.is_empty():
        st.info("Nothing yet. Start a sweep here, or run `recast run --preset quick`.")
        st.stop()
    if (shown, state[0]) != ("map", PACKAGED):  # the packaged map names its own source
        st.caption(f"Data: {plain(source)}.")
    if shown == "browse":
        own = state[0] == str(store_folder()) and Store(store_folder()).has(frame["run"][0])
        browse(view, state, frame, own=own)
    elif shown == "compare":
        comparison(view, state, frame)
    elif shown == "rates":
        parallel_coordinates(view, state, frame)
    else:
        phase_map(view, state, frame)
