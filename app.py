"""ReCast Workbench: `streamlit run app.py`. Its pages: workbench/pages/navigation.py."""

from workbench.pages.navigation import show

show()
