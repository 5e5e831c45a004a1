"""Catalogues, users and targets."""
