"""Rows with averaged weights: `sft averaged` is `sft`, measured at the mean of its last half.

The mean of the weights after each of the last half of steps costs nothing and can move supervision
further than a change of signal does, so a table that leaves it out flatters what it compares.
"""

from __future__ import annotations

from typing import TypeVar

from recast.strategies import parse_strategy
from recast.strategy import Strategy
from sim.settings import Training

AVERAGED = " averaged"
"""What the name of such a row ends with."""

How = TypeVar("How", bound=Training)


def split_averaged(row: str) -> tuple[str, bool]:
    """A row's strategy as text, and whether its weights are averaged.

    >>> split_averaged("sft averaged")
    ('sft', True)
    """
    return row.removesuffix(AVERAGED), row.endswith(AVERAGED)


def strategy_of(row: str) -> Strategy:
    """The strategy of a row. Raises ValueError for a text that is none."""
    return parse_strategy(split_averaged(row)[0])


def training_of(row: str, how: How) -> How:
    """How a row trains: `how`, with the mean of its iterates where the row is averaged.

    Raises ValueError where `how` averages every row already.
    """
    if not split_averaged(row)[1]:
        return how
    if how.iterate == "mean":
        raise ValueError(f"{row!r}: train.iterate is 'mean' already; name the strategy alone")
    return how.model_copy(update={"iterate": "mean"})
