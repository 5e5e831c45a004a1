"""The Streamlit pages, one module each, and what they share."""
