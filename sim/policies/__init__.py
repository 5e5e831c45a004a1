"""Policies over semantic IDs: tabular, log-linear, MLP, transformer, for R runs at once."""
