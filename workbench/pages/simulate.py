"""The button that ranks strategies in a simulated world with a log's regimes."""

from __future__ import annotations

import streamlit as st

from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.lookalike import RIVALS, SEEDS, WARNING, Ranking, wanted_of
from workbench.errors import UserError
from workbench.jobs.lookalike import Lookalike
from workbench.pages.figure import grid, plain
from workbench.pages.stored import store_folder
from workbench.store.runs import Store
from workbench.studies.prediction import saved

COLUMNS = (
    ("area", "Area", "%.4f"),
    ("area_low", "Area, 95% low", "%.4f"),
    ("area_high", "95% high", "%.4f"),
    ("difference", f"Less {RIVALS[0]}'s", "%.4f"),
    ("difference_low", "95% low", "%.4f"),
    ("difference_high", "95% high", "%.4f"),
    ("p_corrected", "p, corrected", "%.3f"),
    ("hr_at_10", "HR@10", "%.4f"),
    ("hr_at_10_low", "HR@10, 95% low", "%.4f"),
    ("hr_at_10_high", "95% high", "%.4f"),
)
SHARES = {
    "all_zero": "all-zero (no hit)",
    "all_zero_low": "95% low",
    "all_zero_high": "95% high",
    "single_hit": "single-hit",
    "several_hits": "two hits or more",
}


class TabSimulation:
    """The one simulation of a browser tab."""

    def __init__(self) -> None:
        self.running: Lookalike | None = None
        self.said = ""

    def start(self, found: Diagnosis) -> None:
        """Send a simulation off."""
        self.close()
        self.said = ""
        try:
            root = Store(store_folder()).prepare().root
            self.running = Lookalike(wanted_of(found), root)
        except UserError as problem:
            self.said = str(problem)

    def stop(self) -> None:
        """Call it off."""
        if self.running is not None:
            self.running.stop()

    def close(self) -> None:
        """End its process."""
        if self.running is not None:
            self.running.close()
            self.running = None


@st.cache_resource(scope="session", show_spinner=False, on_release=lambda held: held.close())
def simulation() -> TabSimulation:
    """Lives as long as the tab: closing it ends the process."""
    return TabSimulation()


def _moving() -> bool:
    running = simulation().running
    return running is not None and not running.look().told.over


def simulate(found: Diagnosis) -> None:
    """Start, watch and stop a simulation; show its ranking."""
    st.write(
        f"Solves for a simulated start whose groups are mixed like those of your last third, then "
        f"trains {', '.join(RIVALS)} there with {SEEDS} paired seeds, each at its own best rate. "
        "This takes some minutes; its runs are kept in the store."
    )
    moving = _moving()

    def board() -> None:
        if _moving() != moving:
            st.rerun()
        with st.container(horizontal=True):
            st.button(
                "Simulate my regime",
                key="simulate",
                on_click=simulation().start,
                args=(found,),
                disabled=moving,
                icon=":material/play_arrow:",
            )
            st.button(
                "Cancel", key="cancel-simulation", on_click=simulation().stop, disabled=not moving
            )
        _show()

    st.fragment(board, run_every=1.0 if moving else None)()


def _show() -> None:
    if simulation().said:
        st.error(plain(simulation().said))
    started = simulation().running
    if started is None:
        return
    running = started.told
    match running.state:
        case "running":
            st.progress(min(running.share, 1.0), text=plain(running.text))
        case "finished" if running.ranking is not None:
            _show_ranking(running.ranking)
        case "stopped":
            st.info(running.text)
        case _:
            st.error(plain(running.text))


def _show_ranking(ranking: Ranking) -> None:
    grid(
        ranking.table,
        hide_index=True,
        placeholder="-",
        key="ranking",
        column_order=[
            "strategy",
            *("area", "difference", "difference_low", "difference_high"),
            *("p_corrected", "label", "hr_at_10", "area_low", "area_high"),
            *("hr_at_10_low", "hr_at_10_high"),
            *("lr", "seeds"),
        ],
        column_config={
            name: st.column_config.NumberColumn(title, format=form) for name, title, form in COLUMNS
        }
        | {"label": "Mind"},
        alt="Strategies by area in the simulated world, with intervals",
    )
    st.caption(
        "The area is Pass@k at the temperature that is best for that k, averaged over "
        "k = 1 to 64: sharpening alone does not raise it. The difference is to "
        f"{RIVALS[0]}, paired by seed; where its interval holds zero, the two are not "
        "told apart."
    )
    grid(
        ranking.regimes,
        hide_index=True,
        placeholder="-",
        key="lookalike",
        column_config={
            name: st.column_config.NumberColumn(title, format="percent")
            for name, title in SHARES.items()
        },
        alt="Regime shares of the log and of the simulated start",
    )
    for note in ranking.notes:
        st.caption(plain(f"Mind: {note}."))
    trusted, record = saved.worth("look_alike", "area")
    st.info(
        f"Record of such a world against a language model, on this metric: it {record}. "
        + ("" if trusted else "So no probability is stated for a language model. ")
        + "`recast predict` prints the whole record, and ranks on your own data folder."
    )
    st.warning(WARNING)
