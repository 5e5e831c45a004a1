"""The stages of a strategy: gate, repair, selection, credit, supervised term."""
