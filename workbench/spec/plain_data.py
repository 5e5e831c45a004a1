"""Trees of plain data from outside: tables, lists, numbers and texts of a sane depth and size.

What has passed here can be copied, compared, printed, hashed and stored without a surprise.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

from recast.quoting import quoted

DEEPEST = 16
"""Levels of tables and lists."""
MOST_VALUES = 100_000
LONGEST_TEXT = 10_000
LARGEST = 2**63 - 1
"""Whole numbers are stored in 64 bits with a sign."""

Tree = TypeVar("Tree", bound=Mapping[str, Any])


def parsed_toml(text: str) -> dict[str, Any]:
    """TOML as a checked tree. Raises ValueError, one line, for whatever cannot be one."""
    try:
        return checked(tomllib.loads(text))
    except RecursionError:
        raise ValueError(f"lists or tables nested more than {DEEPEST} deep") from None


def checked(tree: Tree) -> Tree:
    """The same tree. Raises ValueError, one line naming the place, when it is nested more than
    `DEEPEST` deep, holds more than `MOST_VALUES` values, a whole number beyond 64 bits, or a text
    that is longer than `LONGEST_TEXT` or no Unicode text (a lone surrogate)."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    seen = 0
    while waiting:
        place, value = waiting.pop()
        seen += 1
        if seen > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        if isinstance(value, Mapping):
            inside = [(_text(key, place), one) for key, one in value.items()]
        elif isinstance(value, (list, tuple)):
            inside = [(str(at), one) for at, one in enumerate(value[: MOST_VALUES + 1])]
        else:
            _leaf(value, place)
            continue
        if len(place) >= DEEPEST:
            raise ValueError(f"{_named(place)}: nested more than {DEEPEST} deep")
        waiting += [((*place, name), one) for name, one in inside]
    return tree


def _leaf(value: Any, place: tuple[str, ...]) -> None:
    if isinstance(value, str):
        _text(value, place)
    elif isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise ValueError(f"{_named(place)}: got {quoted(value)}; expected at most 64 bits")


def _text(value: Any, place: tuple[str, ...]) -> str:
    text = str(value)
    if len(text) > LONGEST_TEXT:
        raise ValueError(
            f"{_named(place)}: a text of {len(text):,} characters; expected at most "
            f"{LONGEST_TEXT:,}"
        )
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{_named(place)}: {quoted(text)} is not Unicode text")
    return text


def _named(place: tuple[str, ...]) -> str:
    return ".".join(quoted(name)[1:-1] for name in place[:4]) or "top level"
