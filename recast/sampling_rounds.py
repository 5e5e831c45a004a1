"""Rounds of sampling before a repair sees the groups: whom to ask again, what to keep, when to end.

The simulator (batched over runs) and real models (one run, a batch of any size) sample and join
groups in ways of their own; both have the rounds of a strategy decided here.
Shapes: `[...]` runs, B prompts, G rollouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from recast.groups import RolloutGroups
from recast.stage import Bound


class Sampled(Protocol):
    """What a caller samples in one round: groups, and whatever it keeps beside them."""

    @property
    def groups(self) -> RolloutGroups:
        """The groups of the round, `[..., B, G]`."""


T = TypeVar("T", bound=Sampled)


@dataclass(frozen=True)
class Refill(Generic[T]):
    """One round of a batch that is filled up. slot int64 `[..., B]`: the place of each group in the
    batch, the size of the batch for a group that is not kept; filled int64 `[...]`: places taken so
    far; rollouts int64 `[...]`: sampled in this round by runs whose batch was not full."""

    sampled: T
    slot: Tensor
    filled: Tensor
    rollouts: Tensor


def refills(
    repair: Bound, first: T, prompts: int, sample: Callable[[int], T]
) -> Iterator[Refill[T]]:
    """Rounds of other prompts in the place of groups that a repair marks, until `prompts` are kept.

    first: the round that was sampled already; sample(number) samples the next one.
    """
    assert repair.stage.rounds is not None
    sampled = first
    filled = _none(first.groups)
    for number in range(repair.stage.rounds.most):
        if number:
            sampled = sample(number)
        groups = sampled.groups
        rollouts = (filled < prompts) * groups.valid.sum((-2, -1))
        usable = groups.valid.any(-1) & ~repair.wanted(groups)
        place = filled.unsqueeze(-1) + usable.cumsum(-1) - 1
        slot = torch.where(usable & (place < prompts), place, prompts)
        filled = (filled + usable.sum(-1)).clamp(max=prompts)
        yield Refill(sampled, slot, filled, rollouts)
        if bool((filled == prompts).all()):
            return


def asked_again(
    repair: Bound,
    first: T,
    sample: Callable[[int, Tensor, Tensor], T],
    join: Callable[[T, T, Tensor], T],
) -> tuple[T, Tensor]:
    """Further rounds of the prompts that a repair marks; all rounds joined, and rollouts `[...]`.

    sample(number, again, wanted) samples round `number` of the prompts in `again`, bool
    `[..., B]`; wanted: what the repair wants of each group (see `Rounds`). join(old, new, again)
    joins a round to those before it. The rollouts are those of the further rounds.
    """
    assert repair.stage.rounds is not None
    found, rollouts = first, _none(first.groups)
    for number in range(1, repair.stage.rounds.most):
        wanted = repair.wanted(found.groups)
        again = (wanted > 0) & found.groups.valid.any(-1)
        if not bool(again.any()):
            break
        new = sample(number, again, wanted)
        rollouts = rollouts + new.groups.valid.sum((-2, -1))
        found = join(found, new, again)
    return found, rollouts


def _none(groups: RolloutGroups) -> Tensor:
    """Zero for each run, int64 `[...]`."""
    valid = groups.valid
    return torch.zeros(valid.shape[:-2], dtype=torch.int64, device=valid.device)
