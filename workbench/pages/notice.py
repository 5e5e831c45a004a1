"""What came of a button, said at the page's next drawing."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from workbench.errors import UserError
from workbench.pages.figure import plain

_KEY = "said"


class _Notice(NamedTuple):
    """One line; wrong: something that the user must put right."""

    text: str
    wrong: bool


def tell(outcome: str | UserError) -> None:
    """Keep a line for the next drawing: what was done, or why it was not."""
    st.session_state[_KEY] = _Notice(str(outcome), isinstance(outcome, UserError))


def show_notice(*, once: bool = True) -> None:
    """Show the line that was kept. once: False leaves it there, for what draws itself anew."""
    said = st.session_state.pop(_KEY, None) if once else st.session_state.get(_KEY)
    if said is not None:
        (st.error if said.wrong else st.success)(plain(said.text))
