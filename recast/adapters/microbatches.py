"""Rows of one rollout phase in as few micro-batches as they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

EMPTY = "empty micro-batch"
"""The one key of a micro-batch without rows."""


def packed(
    parts: Sequence[dict[str, Any]], *, most: int, size: int, row_means: bool
) -> list[dict[str, Any]]:
    """As many micro-batches as `parts`: empty ones, then the same rows in full ones.

    Full ones come last, so that the one whose gradients ranks exchange is real. A row is active
    when its completion_mask holds anything; most: active rows of the rank that has the most, so
    that every rank gets as many full ones of one width; size: rows that a micro-batch may have.
    row_means: the loss is a mean over a micro-batch's rows, so advantages are scaled to keep the
    sum over the phase.
    """
    whole = {
        name: torch.cat([part[name] for part in parts]) if _by_row(value) else value
        for name, value in parts[0].items()
    }
    active = whole["completion_mask"].any(-1)
    count = -(-most // size)
    width = -(-most // count)
    order = torch.cat([active.nonzero().squeeze(-1), (~active).nonzero().squeeze(-1)])
    place = torch.arange(count * width, device=active.device)
    keep, filler = order[place.clamp(max=len(order) - 1)], place >= active.sum()
    found = {name: value[keep] if _by_row(value) else value for name, value in whole.items()}
    found["completion_mask"] = found["completion_mask"].masked_fill(filler.unsqueeze(-1), 0)
    if row_means:
        found["advantages"] = found["advantages"] * (width * len(parts) / len(active))
    full = [
        {
            name: value[start : start + width] if _by_row(value) else value
            for name, value in found.items()
        }
        for start in range(0, count * width, width)
    ]
    return [{EMPTY: True} for _ in range(len(parts) - count)] + full


def _by_row(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0
