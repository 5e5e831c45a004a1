"""ReCast Workbench: `streamlit run app.py`. Navigation only."""

import streamlit as st
from starlette.middleware import Middleware

from workbench.pages.hosts import OwnHostsOnly
from workbench.pages.ready import load


def show() -> None:
    """Set the page up, draw the sidebar and run the page that was asked for."""
    load()
    st.set_page_config(page_title="ReCast Workbench", layout="wide")
    learnability = st.Page("workbench/pages/learnability.py", title="Learnability", default=True)
    gradient_signals = st.Page("workbench/pages/gradient_signals.py", title="Gradient signals")
    train_live = st.Page("workbench/pages/train_live.py", title="Train live")
    budget = st.Page("workbench/pages/budget.py", title="Budget to target")
    sweeps = st.Page("workbench/pages/sweeps.py", title="Sweeps")
    real_models = st.Page("workbench/pages/real_models.py", title="Real models")
    your_rollouts = st.Page("workbench/pages/your_rollouts.py", title="Your rollouts")
    claims = st.Page("workbench/pages/claims.py", title="Claims")
    page = st.navigation(
        [
            learnability,
            gradient_signals,
            train_live,
            budget,
            sweeps,
            real_models,
            your_rollouts,
            claims,
        ]
    )

    all_zero = {"group": "0*0_0*1_0*0_0*2_0*0_0*0_0*1_0*0"}
    against_sft = {"view": "compare", "strategy_0": "recast", "strategy_1": "sft"}
    with st.sidebar:
        st.caption("New here? Five questions, five minutes")
        st.page_link(learnability, label="Why do all-zero groups waste budget?")
        st.page_link(gradient_signals, label="What does ReCast change?", query_params=all_zero)
        st.page_link(budget, label="When does it help?")
        st.page_link(sweeps, label="When is plain SFT as good?", query_params=against_sft)
        st.page_link(real_models, label="Does it hold on a real model?")

    page.run()


if __name__ == "__main__":
    show()
else:
    # `streamlit run` finds the server here and puts the guard in front of it.
    load()
    app = st.App(__file__, middleware=[Middleware(OwnHostsOnly)])
