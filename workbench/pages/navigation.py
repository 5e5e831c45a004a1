"""The app: its pages, and the questions that lead a newcomer to them. Navigation only.

`streamlit run app.py` in a checkout and `recast app` of an installed package both come here.
"""

from pathlib import Path

import streamlit as st

from workbench.pages.ready import load

PAGES = {
    "learnability": "Learnability",
    "gradient_signals": "Gradient signals",
    "train_live": "Train live",
    "budget": "Budget to target",
    "sweeps": "Sweeps",
    "real_models": "Real models",
    "your_rollouts": "Your rollouts",
    "claims": "Claims",
}
"""Modules of this folder and their titles, in order; the first is shown at the bare address."""

ALL_ZERO = {"group": "0*0_0*1_0*0_0*2_0*0_0*0_0*1_0*0"}
AGAINST_SFT = {"view": "compare", "strategy_0": "recast", "strategy_1": "sft"}
QUESTIONS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Why do all-zero groups waste budget?", "learnability", {}),
    ("What does ReCast change?", "gradient_signals", ALL_ZERO),
    ("When does it help?", "budget", {}),
    ("When is plain SFT as good?", "sweeps", AGAINST_SFT),
    ("Does it hold on a real model?", "real_models", {}),
)
"""A question, the page that answers it, and what stands in that page's address."""


def show() -> None:
    """Set the page up, draw the sidebar and run the page that was asked for."""
    load()
    st.set_page_config(page_title="ReCast Workbench", layout="wide")
    folder = Path(__file__).resolve().parent
    pages = {
        name: st.Page(folder / f"{name}.py", title=title, default=name == next(iter(PAGES)))
        for name, title in PAGES.items()
    }
    page = st.navigation(list(pages.values()))
    with st.sidebar:
        st.caption("New here? Five questions, five minutes")
        for question, name, query in QUESTIONS:
            st.page_link(pages[name], label=question, query_params=query)
    page.run()


if __name__ == "__main__":
    show()
