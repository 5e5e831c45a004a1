"""What one rollout phase cost and taught, from its signal: the same counts wherever one trains.

Shapes: leading dimensions of the groups `[...]` (runs, or none), B prompts.
"""

from __future__ import annotations

from typing import NamedTuple

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
    taught = strategy.learns_from_target
    supervised = zero + (prompts if taught else 0) if labels is None else labels
    if signal is None:
        tally = Tally(zero, zero, zero, zero, zero)
    else:
        tally = Tally(
            rows=signal.rows.sum((-2, -1)),
            active=signal.active.sum((-2, -1)),
            live=signal.active.any(-1).sum(-1),
            repaired=anchored(signal.groups).sum(-1),
            silent=(~signal.rows.any(-1)).sum(-1),
        )
    spent, counted = booked(tally, rollouts, supervised, zero + steps, prompts, taught)
    return spent, {name: value.double() / prompts for name, value in counted.items()}


class Tally(NamedTuple):
    """Counts over groups `[...]`: rollouts that go through the update, those with a credit; groups
    with a credit, with an anchor, without a rollout that goes through the update."""

    rows: Tensor
    active: Tensor
    live: Tensor
    repaired: Tensor
    silent: Tensor


def booked(
    tally: Tally,
    rollouts: Tensor,
    labels: Tensor,
    steps: Tensor,
    groups: Tensor | int,
    taught: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What was counted, by the names of `CostLedger` and, as sums over groups, of `TAUGHT`.

    rollouts, labels, steps `[...]`: sampled, shown to a supervised term, of the optimizer; groups
    `[...]`: how many were counted; taught: whether a supervised term adds its labels as rows and a
    credit to every group.
    """
    spent = {
        "rollouts": rollouts,
        "scored_rows": rollouts,
        "updated_rows": tally.rows + labels,
        "optimizer_steps": steps,
        "labels": labels if taught else tally.repaired,
        "skipped_prompts": 0 * steps if taught else tally.silent,
    }
    extra = groups if taught else 0
    return spent, {
        "learnable": 0 * tally.live + groups if taught else tally.live,
        "signal_count": tally.active + extra,
        "update_width": tally.rows + extra,
        "repaired": tally.repaired,
    }
