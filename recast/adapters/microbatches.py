"""Rows of one rollout phase in as few micro-batches as they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recast.adapters.trl_targets import MARK, reaches

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
    sum over the phase. A row that carries a target (`trl_targets`) is active as well.
    """
    whole = {
        name: torch.cat([part[name] for part in parts]) if _by_row(value) else value
        for name, value in parts[0].items()
    }
    active = reaches(whole)
    count = min(-(-most // size), len(parts))
    width = -(-most // count)
    keep, filler = marked_first(active, count * width)
    found = {name: value[keep] if _by_row(value) else value for name, value in whole.items()}
    found["completion_mask"] = found["completion_mask"].masked_fill(filler.unsqueeze(-1), 0)
    if MARK in found:
        found[MARK] = found[MARK].masked_fill(filler, 0.0)
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


def marked_first(marked: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rows in an order that has the marked ones first, cut or filled up to `size`, and which places
    hold no marked row; marked bool `[n]`."""
    order = torch.cat([marked.nonzero().squeeze(-1), (~marked).nonzero().squeeze(-1)])
    place = torch.arange(size, device=marked.device)
    return order[place.clamp(max=len(order) - 1)], place >= marked.sum()


def _by_row(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0
