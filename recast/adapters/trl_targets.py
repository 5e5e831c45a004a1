"""The supervised term of a strategy inside TRL's loss: one more row per prompt, its target.

A row that carries a target has completion_mask 0, so that TRL's own loss and metrics pass it over,
and a mark. Its log-probability comes from the same forward pass as the rollouts' of its
micro-batch, and the strategy's term is added to TRL's loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recast.loss import denominator
from recast.signal import Signal
from recast.stages.supervised import Evidence
from recast.strategy import Strategy

MARK, HITS, VALID = "target_row", "target_hits", "target_valid"
"""Columns of a micro-batch: 1.0 where a row carries a target; hits and rollouts of its group."""

TrainerBatch = dict[str, Any]


def with_targets(
    output: TrainerBatch,
    first: Tensor,
    targets: Sequence[Sequence[int]],
    hits: Tensor,
    valid: Tensor,
) -> TrainerBatch:
    """TRL's generation batch, then a row for each of the prompts at `first`, int64 `[n]`.

    targets: token ids of these prompts, of one length; hits, valid `[n]`: of their groups.
    """
    total, width = output["completion_ids"].shape
    length = len(targets[0]) if targets else 0
    found: TrainerBatch = {}
    for name, value in output.items():
        found[name] = value
        if not isinstance(value, Tensor) or not value.ndim or len(value) != total:
            continue
        by_token = value.ndim == 2 and value.shape[1] == width and not name.startswith("prompt")
        if by_token and length > width:
            value = torch.nn.functional.pad(value, (0, length - width))
        rows = value[first.to(value.device)]
        if name in ("advantages", "completion_mask", "completion_ids"):
            rows = torch.zeros_like(rows)
        if name == "completion_ids" and length:
            rows[:, :length] = torch.tensor(targets, dtype=rows.dtype, device=rows.device)
        found[name] = torch.cat([value, rows])
    none = torch.zeros(total, device=output["completion_ids"].device)
    found[MARK] = torch.cat([none, torch.ones_like(none[:1]).expand(len(first))])
    found[HITS] = torch.cat([none, hits.to(none)])
    found[VALID] = torch.cat([none, valid.to(none)])
    return found


def reaches(batch: TrainerBatch) -> Tensor:
    """Rows of a micro-batch that are scored: rollouts with tokens, and targets; bool `[n]`."""
    rows: Tensor = batch["completion_mask"].any(-1)
    return rows | batch[MARK].bool() if MARK in batch else rows


def attended(mask: Tensor, marked: Tensor, width: int, length: int) -> Tensor:
    """The attention mask `[n, T]` whose last `width` places are the completion, with the targets of
    marked rows seen."""
    mask = mask.clone()
    start = mask.shape[1] - width
    mask[:, start : start + length] |= marked.to(mask.dtype).unsqueeze(-1)
    return mask


def term(strategy: Strategy, logp: Tensor, batch: TrainerBatch, progress: float) -> Tensor:
    """Sum of the supervised term over a micro-batch's targets; logp `[n, L]` of its marked rows."""
    marked = batch[MARK].bool()
    hits, valid = batch[HITS][marked], batch[VALID][marked]
    evidence = Evidence(logp, progress=progress, hits=hits, valid=valid)
    total: Tensor = strategy.stage("supervised")(evidence).sum()
    return total


def share(strategy: Strategy, signal: Signal, length: int, divisor: str) -> float:
    """What a prompt's term is divided by, besides the number of prompts: 1, or where TRL's
    normalisation divides the policy term, what that divides it by beyond the strategy's own."""
    if divisor == "strategy" or not strategy.has_credit:
        return 1.0
    own = float(denominator(signal, strategy.denominator, length))
    return signal.groups.valid.sum().item() * length / own
