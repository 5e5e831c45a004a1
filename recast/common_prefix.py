"""How far two sequences of codes agree from their start; without PyTorch, for readers of texts."""

from __future__ import annotations

from collections.abc import Sequence


def leading(one: Sequence[object], other: Sequence[object]) -> int:
    """Number of leading entries that agree; of sequences of any lengths."""
    same = 0
    for ours, theirs in zip(one, other, strict=False):
        if ours != theirs:
            break
        same += 1
    return same
