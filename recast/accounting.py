"""What one rollout phase cost and taught, from its signal: the same counts wherever one trains.

Shapes: leading dimensions of the groups `[...]` (runs, or none), B prompts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recast.signal import Signal
from recast.stages.repair import anchored
from recast.strategy import Strategy


def account(
    strategy: Strategy,
    signal: Signal | None,
    prompts: int,
    rollouts: Tensor,
    steps: int,
    labels: Tensor | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Counts by the names of `CostLedger`, and means over groups by those of `TAUGHT`; `[...]`.

    signal: None where the strategy sampled nothing; rollouts `[...]` int64: all that were sampled;
    steps: of the optimizer; labels `[...]` int64: targets that a supervised term saw, each a row of
    the update too; None = one per prompt. A prompt that was never rolled out counts as skipped with
    its group.
    """
    zero = torch.zeros_like(rollouts)
    taught_by = strategy.learns_from_target
    supervised = zero + (prompts if taught_by else 0) if labels is None else labels
    spent = {"rollouts": rollouts, "scored_rows": rollouts, "optimizer_steps": zero + steps}
    if signal is None:
        taught = (zero + int(taught_by)).double()
        spent |= {"updated_rows": supervised, "labels": supervised}
        counted = {"learnable": taught, "signal_count": taught, "update_width": taught}
        return spent | {"skipped_prompts": zero}, counted | {"repaired": 0 * taught}
    width = signal.rows.sum(-1) + int(signal.supervised)
    repaired = anchored(signal.groups)
    spent |= {
        "updated_rows": signal.rows.sum((-2, -1)) + supervised,
        "labels": supervised if taught_by else repaired.sum(-1),
        "skipped_prompts": (width == 0).sum(-1),
    }
    return spent, {
        "learnable": (signal.count > 0).double().mean(-1),
        "signal_count": signal.count.double().mean(-1),
        "update_width": width.double().mean(-1),
        "repaired": repaired.double().mean(-1),
    }
