"""Strategies by the texts that a user wrote."""

from __future__ import annotations

from collections.abc import Iterable

from recast.strategies import parse_strategy
from recast.strategy import Strategy
from workbench.errors import UserError


def parsed(names: Iterable[str], option: str = "") -> dict[str, Strategy]:
    """Strategies by their texts. option: where a user wrote them, for the message.

    Raises UserError, one line, for the first text that is none.
    """
    try:
        return {name: parse_strategy(name) for name in names}
    except ValueError as problem:
        raise UserError(f"{option}: {problem}" if option else str(problem)) from None
