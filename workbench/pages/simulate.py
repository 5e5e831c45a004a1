"""The button that ranks strategies in a simulated world with a log's regimes."""

from __future__ import annotations

import streamlit as st

from workbench.diagnose import Diagnosis
from workbench.lookalike import RIVALS, SEEDS, WARNING, wanted_of
from workbench.lookalike_watch import Lookalike
from workbench.pages.figure import plain
from workbench.pages.stored import store_folder
from workbench.spec import SpecError
from workbench.store import Store, StoreError


class Desk:
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
        except (SpecError, StoreError) as problem:
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


@st.cache_resource(scope="session", show_spinner=False, on_release=lambda desk: desk.close())
def desk() -> Desk:
    """Lives as long as the tab: closing it ends the process."""
    return Desk()


def _moving() -> bool:
    running = desk().running
    return running is not None and running.look().state == "running"


def simulate(found: Diagnosis) -> None:
    """Start, watch and stop a simulation; show its ranking."""
    st.write(
        f"Solves for a simulated start whose groups are mixed like those of your last third, then "
        f"trains {', '.join(RIVALS)} there with {SEEDS} paired seeds, each at its own best rate."
    )
    moving = _moving()

    def board() -> None:
        if _moving() != moving:
            st.rerun()
        with st.container(horizontal=True):
            st.button(
                "Simulate my regime",
                key="simulate",
                on_click=desk().start,
                args=(found,),
                disabled=moving,
                icon=":material/play_arrow:",
            )
            st.button("Cancel", key="cancel-simulation", on_click=desk().stop, disabled=not moving)
        _show()

    st.fragment(board, run_every=1.0 if moving else None)()


def _show() -> None:
    if desk().said:
        st.error(plain(desk().said))
    running = desk().running
    if running is None:
        return
    match running.state:
        case "running":
            st.progress(min(running.share, 1.0), text=plain(running.text))
        case "finished" if running.ranking is not None:
            ranking = running.ranking
            st.dataframe(
                ranking.table,
                hide_index=True,
                placeholder="-",
                key="ranking",
                column_config={
                    "pass_at_1_matched": st.column_config.NumberColumn("Pass@1", format="%.4f"),
                    "recall_at_10": st.column_config.NumberColumn("Recall@10", format="%.4f"),
                    "difference": st.column_config.NumberColumn(
                        f"Pass@1 less {RIVALS[0]}'s", format="%.4f"
                    ),
                    "p_holm": st.column_config.NumberColumn("p, corrected", format="%.3f"),
                },
                alt="Strategies by Pass@1 in the simulated world, with intervals",
            )
            st.dataframe(
                ranking.regimes,
                hide_index=True,
                placeholder="-",
                key="lookalike",
                alt="Regime shares of the log and of the simulated start",
            )
            for note in ranking.notes:
                st.caption(plain(f"Mind: {note}."))
            st.warning(WARNING)
        case "stopped":
            st.info(running.text)
        case _:
            st.error(plain(running.text))
