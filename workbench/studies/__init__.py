"""Packaged questions: the paper's claims, the phase map, the search, questions beyond the paper."""
