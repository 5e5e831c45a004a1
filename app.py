"""ReCast Workbench: `streamlit run app.py`. Navigation only."""

import streamlit as st

st.set_page_config(page_title="ReCast Workbench", layout="wide")
st.navigation(
    [
        st.Page("workbench/pages/learnability.py", title="Learnability", default=True),
        st.Page("workbench/pages/gradient_signals.py", title="Gradient signals"),
        st.Page("workbench/pages/train_live.py", title="Train live"),
        st.Page("workbench/pages/budget.py", title="Budget to target"),
        st.Page("workbench/pages/sweeps.py", title="Sweeps"),
        st.Page("workbench/pages/real_models.py", title="Real models"),
        st.Page("workbench/pages/claims.py", title="Claims"),
    ]
).run()
