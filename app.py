"""ReCast Workbench: `streamlit run app.py`. Navigation only."""

import streamlit as st

from workbench.jobs.warm_up import warm_up

st.set_page_config(page_title="ReCast Workbench", layout="wide")
warm_up()
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

ALL_ZERO = {"group": "0*0_0*1_0*0_0*2_0*0_0*0_0*1_0*0"}
AGAINST_SFT = {"view": "compare", "strategy_0": "recast", "strategy_1": "sft"}
with st.sidebar:
    st.caption("New here? Five questions, five minutes")
    st.page_link(learnability, label="Why do all-zero groups waste budget?")
    st.page_link(gradient_signals, label="What does ReCast change?", query_params=ALL_ZERO)
    st.page_link(budget, label="When does it help?")
    st.page_link(sweeps, label="When is plain SFT as good?", query_params=AGAINST_SFT)
    st.page_link(real_models, label="Does it hold on a real model?")

page.run()
