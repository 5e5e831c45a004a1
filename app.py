"""ReCast Workbench: `streamlit run app.py`. Its pages: workbench/pages/navigation.py."""

import streamlit as st
from starlette.middleware import Middleware

from workbench.jobs.warm_up import warm_up
from workbench.pages.hosts import OwnHostsOnly
from workbench.pages.navigation import show
from workbench.pages.preload import load

if __name__ == "__main__":
    show()
else:
    # `streamlit run` finds the server here and puts the guard in front of it.
    load()
    warm_up()
    app = st.App(__file__, middleware=[Middleware(OwnHostsOnly)])
