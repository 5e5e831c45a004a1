"""The linked picture of a group: its tree, every strategy's bars, hover, drag and choice.

The browser draws it from numbers that were worked out here: a drag redraws without the server, and
what it ends in comes back as a change of the group.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st

from workbench.theory.group import DEPTH

_HERE = Path(__file__).parent
HTML = '<div id="linked"></div><p id="linked-said" aria-live="polite"></p>'

_DRAW = st.components.v2.component(
    "recast_linked",
    html=HTML,
    css=(_HERE / "group_picture.css").read_text(encoding="utf-8"),
    js=(_HERE / "group_picture.js").read_text(encoding="utf-8"),
)


def group_picture(
    group: pl.DataFrame,
    moves: dict[str, list[dict[str, Any]]],
    lit: str,
    on_lit: Callable[[str], None],
    on_moved: Callable[[int, int], None],
) -> None:
    """Draw it. moves: as `workbench.theory.moves.moves` gives; lit: the strategy whose weights
    colour the branches; on_lit, on_moved: called with a strategy, and with a rollout (from 1) and
    the levels that it matches now."""

    def choose() -> None:
        said = st.session_state["linked"].get("lit")
        if said in moves:
            on_lit(said)

    def move() -> None:
        said = st.session_state["linked"].get("moved")
        if isinstance(said, dict):
            for place in range(group.height):
                if place == said.get("rollout") and said.get("level") in range(DEPTH + 1):
                    on_moved(place + 1, int(said["level"]))

    _DRAW(
        key="linked",
        data={
            "levels": group["matched"].to_list(),
            "rewards": group["reward"].to_list(),
            "depth": DEPTH,
            "strategies": list(moves),
            "moves": moves,
            "lit": lit,
        },
        on_lit_change=choose,
        on_moved_change=move,
    )
