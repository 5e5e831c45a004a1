"""Experiments, their store, analysis, charts, log diagnosis, commands and pages."""
