"""What `recast app` serves: the pages, behind the guard of hosts and origins."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from workbench.jobs.warm_up import warm_up
from workbench.pages.hosts import OwnHostsOnly

warm_up()
app = st.App(Path(__file__).with_name("navigation.py"), middleware=[Middleware(OwnHostsOnly)])
