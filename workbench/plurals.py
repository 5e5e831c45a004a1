"""How many of something, in words that agree with their number."""

from __future__ import annotations


def number_of(number: int, one: str, more: str = "") -> str:
    """`1 run`, `2 runs`, `12,000 runs`. one: what follows the number 1; more: what follows any
    other, by default the same with an s; a verb may come with both."""
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"
