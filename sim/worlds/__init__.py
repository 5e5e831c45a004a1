"""Worlds: catalogues, users and targets, made up or replayed from a data folder."""
