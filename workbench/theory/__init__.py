"""Closed forms and exact enumerations, as frames for tables and charts."""
