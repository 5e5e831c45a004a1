"""Rows of a trainer's data with one right answer or with several, as token ids.

`target_ids` of a row is a list of token ids, or a list of such lists. A rollout that is any of them
is a hit, and its score is that of the nearest; repair and supervised terms take one of them, drawn
anew in every rollout phase, as `recast lm rl` does.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from recast.common_prefix import leading

TokenIds = list[int]


def right_answers(value: Any) -> list[TokenIds]:
    """The distinct right answers of one row's `target_ids`, in their order.

    Raises ValueError, one line: nothing there, or something that is no token id.
    """
    several = [value] if all(not _many(entry) for entry in value) else list(value)
    try:
        answers = [tuple(operator.index(token) for token in answer) for answer in several]
    except TypeError:
        answers = []
    if not answers or not all(answers):
        raise ValueError(
            f"target_ids: {str(value)[:60]}; expected a list of token ids, or a list of such lists"
        )
    return [list(answer) for answer in dict.fromkeys(answers)]


def one_length(right: Sequence[Sequence[Sequence[int]]]) -> int:
    """The number of tokens L of every right answer of every row.

    Raises ValueError, one line, where they differ.
    """
    lengths = sorted({len(answer) for answers in right for answer in answers})
    if len(lengths) != 1:
        raise ValueError(
            f"target_ids: expected one length in every row, got {lengths}; pad or drop rows"
        )
    return lengths[0]


def nearest(tokens: Sequence[int], answers: Sequence[Sequence[int]]) -> int:
    """Leading tokens that a rollout shares with the answer that it shares most with."""
    return max(leading(tokens, answer) for answer in answers)


def drawn(answers: Sequence[TokenIds], draw: float) -> TokenIds:
    """The answer at a uniform draw in [0, 1)."""
    return answers[min(int(draw * len(answers)), len(answers) - 1)]


def _many(value: Any) -> bool:
    return (
        hasattr(value, "__len__") and not isinstance(value, str) and getattr(value, "ndim", 1) > 0
    )
