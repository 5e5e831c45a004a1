"""The stages of a strategy: gate, repair, selection, credit, surrogate, supervised term."""
