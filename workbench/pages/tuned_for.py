"""What picks the learning rates that a page shows: the metric that is drawn, or another one."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import streamlit as st

from workbench.analysis.tuning import chosen_by, lone_rates, mark_tuned, rates_that_differ
from workbench.pages.address import Address
from workbench.spec.metrics import METRICS

OWN = "own"


def tuning_box(view: Address, metrics: Sequence[str], own: str) -> str | None:
    """A box "Rates chosen for"; None for its first choice, `own` in words: each number's own
    metric."""
    words = {OWN: own, **METRICS}
    chosen = st.selectbox(
        "Rates chosen for",
        [OWN, *metrics],
        format_func=lambda name: words.get(name, name),
        help="What picks each strategy's learning rate, on validation users: the metric whose "
        "number is shown, or another one.",
        **view.one_of("tune", [OWN, *metrics]),
    )
    return None if chosen == OWN else str(chosen)


def chosen_rates(frame: pl.DataFrame) -> str:
    """What chose the rates of a marked frame of one cell, in words; a strategy that was tried at
    one rate alone has none that was chosen."""
    alone = lone_rates(frame)
    tried = ", ".join(f"{name} ({rate:g})" for name, rate in alone.items())
    if len(alone) == frame["strategy"].n_unique():
        return f"One learning rate was tried for each, so none was chosen: {tried}."
    by = ", ".join(METRICS.get(name, name) for name in chosen_by(frame).split(", "))
    said = f"Each strategy at the learning rate that is best on validation users by: {by}."
    return f"{said} Tried at one rate alone, so not chosen: {tried}." if alone else said


def other_rates(metric: str, *marked: pl.DataFrame) -> str:
    """What the metric that is shown would have chosen instead of the rates of marked frames, each
    of one cell."""
    said = [
        f"{name} {own:g} (here {rate:g})"
        for frame in marked
        for name, (own, rate) in rates_that_differ(mark_tuned(frame, metric), frame).items()
    ]
    begin = "The metric that is drawn would have chosen"
    return f"{begin}: {', '.join(said)}." if said else f"{begin} the same rates."
