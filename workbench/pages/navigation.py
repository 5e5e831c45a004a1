"""The app: its pages, and the questions that lead a newcomer to them. Navigation only.

`streamlit run app.py` in a checkout and `recast app` of an installed package both come here.
"""

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from workbench.pages.figure import choose_look
from workbench.pages.preload import load

PAGES = {
    "home": "One prompt, 32 rollouts",
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
PACKAGED = {"data": "packaged"}
AGAINST_SFT = {"view": "compare", "strategy_0": "recast", "strategy_1": "sft"} | PACKAGED
QUESTIONS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Why do all-zero groups waste budget?", "learnability", {"group": "32"}),
    ("What does ReCast change?", "gradient_signals", ALL_ZERO),
    ("When does it help?", "budget", PACKAGED),
    ("When is plain SFT as good?", "sweeps", AGAINST_SFT),
    ("Does it hold on a real model?", "real_models", PACKAGED),
)
"""A question, the page that answers it, and what stands in that page's address: the guide shows
packaged data, whatever the store holds."""

LOOK = """<style>
[data-testid="stMainBlockContainer"] { padding-top: 3.2rem; padding-bottom: 3rem; }
[data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] { gap: 0.6rem; }
[data-testid="stMain"] h1 { font-size: 2rem; padding: 0.4rem 0; }
[data-testid="stMain"] h2 { font-size: 1.5rem; }
[data-testid="stMain"] h3 { font-size: 1.2rem; }
[data-testid="stMain"] [data-variant="segmented_control"] * { color: inherit; }
[data-testid="stMain"] [data-variant="segmented_control"][data-selected] { color: inherit; }
[data-testid="stMain"] [data-testid="stCode"] .token.comment { color: inherit; }
[data-testid="stMain"] [data-testid="stElementContainer"] { max-width: 100%; }
[data-testid="stMain"] [data-testid="stVegaLiteChart"] { max-width: 100%; overflow-x: auto; }
[data-testid="stElementToolbarButton"]:has([aria-label^="Download as CSV"]) { display: none; }
[data-testid="stSidebar"] [data-testid="stPageLink"] a { background: transparent; }
[data-testid="stSidebar"] [data-testid="stPageLink"] a * { font-weight: 400; }
@media (max-width: 900px) {
    [data-testid="stMainBlockContainer"] { padding-bottom: 1rem; }
    [data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] { gap: 0.4rem; }
}
@media (max-width: 640px) {
    [data-testid="stMain"] [data-testid="stVegaLiteChart"] { max-width: none; overflow: visible; }
    [data-testid="stFullScreenFrame"]:has([data-testid="stVegaLiteChart"]) { overflow-x: auto; }
    [data-testid="stFullScreenFrame"] > div:has(> [data-testid="stVegaLiteChart"]) {
        min-width: 34rem;
    }
    .st-key-step-1 [data-testid="stFullScreenFrame"] > div:has(> [data-testid="stVegaLiteChart"]) {
        min-width: 0;
    }
}
</style>"""
"""Less empty space than by default: what answers should be on the first screen. A question is not
marked as the current page: other views of its page are not its answer. On a narrow screen a picture
of a fixed width scrolls by itself, not the page; on a phone every picture but the first of the
story, which has none, keeps a width at which its legend leaves it room. A chosen part of a page,
and a comment in code, are as dark as the text around them. Streamlit's own download of a table
writes formulas as they are; every picture and list of runs has a download that does not."""


REACH = """<script>
if (!window.recastWatches) {
    window.recastWatches = true;
    let waiting = 0;
    const mark = () => {
        const frames = '[data-testid="stVegaLiteChart"], [data-testid="stFullScreenFrame"]';
        for (const one of document.querySelectorAll(frames)) {
            const scrolls = getComputedStyle(one).overflowX === "auto";
            if (scrolls && one.scrollWidth > one.clientWidth) one.tabIndex = 0;
            else one.removeAttribute("tabindex");
        }
        const drop = '[data-testid="stFileUploaderDropzone"][role="presentation"]';
        for (const one of document.querySelectorAll(drop)) one.setAttribute("role", "group");
    };
    const soon = () => {
        clearTimeout(waiting);
        waiting = setTimeout(mark, 250);
    };
    new MutationObserver(soon).observe(document.body, { childList: true, subtree: true });
    window.addEventListener("resize", soon);
    soon();
}
</script>"""
"""A picture that scrolls by itself on a narrow screen can be reached, and scrolled, by keyboard.
The place to drop files has a name, so it is a group and no mere decoration."""


def page_of(name: str) -> StreamlitPage:
    """A page of `PAGES`, to link to."""
    path = Path(__file__).resolve().parent / f"{name}.py"
    return st.Page(path, title=PAGES[name], default=name == next(iter(PAGES)))


def show() -> None:
    """Set the page up, draw the sidebar and run the page that was asked for."""
    load()
    st.set_page_config(page_title="ReCast Workbench", layout="wide")
    st.html(LOOK)
    pages = {name: page_of(name) for name in PAGES}
    page = st.navigation(list(pages.values()))
    with st.sidebar:
        st.caption("New here? Five questions, five minutes")
        for question, name, query in QUESTIONS:
            st.page_link(pages[name], label=question, query_params=query)
        with st.expander("Pictures for a paper"):
            choose_look()
        st.html(REACH, unsafe_allow_javascript=True)
    page.run()


if __name__ == "__main__":
    show()
