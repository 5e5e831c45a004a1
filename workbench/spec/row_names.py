"""What a row's name says: its strategy, and what it does otherwise than the rest of its table.

`sft averaged` is `sft`, measured at the mean of the weights of its last half of steps, and `sft
decaying` is `sft` at a learning rate that falls linearly to 0. Both cost nothing and can move
supervision further than a change of signal does, so a table that leaves them out flatters what it
compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from recast.strategies import parse_strategy
from recast.strategy import Strategy
from sim.settings import Training

AVERAGED, DECAYING = " averaged", " decaying"
"""What the names of such rows end with."""

_SAYS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {AVERAGED: ("iterate", "mean"), DECAYING: ("schedule", "linear")}
)

How = TypeVar("How", bound=Training)


def split_row(row: str) -> tuple[str, str]:
    """A row's strategy as text, and `AVERAGED`, `DECAYING` or nothing.

    >>> split_row("sft averaged")
    ('sft', ' averaged')
    """
    ending = next((ending for ending in _SAYS if row.endswith(ending)), "")
    return row.removesuffix(ending), ending


def trained_row(row: str) -> str:
    """The row of which this one is another measurement: a mean of weights is no other training.

    >>> trained_row("sft averaged"), trained_row("sft decaying")
    ('sft', 'sft decaying')
    """
    return row.removesuffix(AVERAGED)


def strategy_of(row: str) -> Strategy:
    """The strategy of a row. Raises ValueError for a text that is none."""
    return parse_strategy(split_row(row)[0])


def training_of(row: str, how: How) -> How:
    """How a row trains: `how`, but for what its name says.

    Raises ValueError where `how` says so of every row already.
    """
    ending = split_row(row)[1]
    if not ending:
        return how
    field, value = _SAYS[ending]
    if getattr(how, field) == value:
        raise ValueError(f"{row!r}: train.{field} is {value!r} already; name the strategy alone")
    return how.model_copy(update={field: value})
