"""ReCast Workbench: `streamlit run app.py`. Its pages: workbench/pages/navigation.py."""

from workbench.jobs.warm_up import warm_up
from workbench.pages.navigation import show

warm_up()
show()
