"""Worlds: who asks, what they would like, and what the log says they took.

A `World` is all that policies, the trainer and the evaluation know. `sim.worlds.synthetic` makes
one up, `sim.worlds.replay` replays a published data folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sim.worlds.catalogue import Catalogue
from sim.worlds.ceilings import ceilings
from sim.worlds.tasks import TASKS


@dataclass(frozen=True)
class Prompts:
    """P prompts: context `[P, D]` features; target `[P]` int64, the item that supervision uses;
    preference `[P, N]` true item probabilities where they are known; slices: name -> bool `[P]`;
    targets `[P, M]` int64, all that count as a hit, padded with -1; None = `target` alone;
    draws `[P]`: how many independent draws from `preference` the targets are; None = one."""

    context: Tensor
    target: Tensor
    preference: Tensor | None = None
    slices: Mapping[str, Tensor] = field(default_factory=dict)
    targets: Tensor | None = None
    draws: Tensor | None = None

    def __len__(self) -> int:
        return self.target.shape[0]

    @property
    def all_targets(self) -> Tensor:
        """Targets of each prompt, `[P, M]`, padded with -1."""
        return self.target.unsqueeze(-1) if self.targets is None else self.targets

    def take(self, index: Tensor) -> Prompts:
        """Some of the prompts, by position."""
        return Prompts(
            self.context[index],
            self.target[index],
            None if self.preference is None else self.preference[index],
            {name: mask[index] for name, mask in self.slices.items()},
            None if self.targets is None else self.targets[index],
            None if self.draws is None else self.draws[index],
        )

    def chunks(self, size: int) -> Iterator[Prompts]:
        """The prompts in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(torch.arange(start, min(start + size, len(self))))


@dataclass(frozen=True, eq=False)
class World:
    """Four disjoint prompt sets: sft (warm start), train (RL), validation (tuning), test.
    Two worlds are equal where they are the same object."""

    name: str
    catalogue: Catalogue
    sft: Prompts
    train: Prompts
    validation: Prompts
    test: Prompts
    notes: tuple[str, ...] = ()

    @property
    def ceilings(self) -> dict[str, float]:
        """`sim.worlds.ceilings.ceilings` of all test prompts; empty where the truth is unknown."""
        return ceilings(self.test.preference, self.test.draws)

    def ceilings_by_slice(self) -> dict[str, dict[str, float]]:
        """Ceilings of all test prompts (`all`) and of those of each task, where there are several.
        Slices that depend on the target itself have no such bound and are left out."""
        found = {"all": self.ceilings} if self.ceilings else {}
        for name in TASKS:
            mask = self.test.slices.get(name)
            if self.ceilings and mask is not None and bool(mask.any()):
                part = self.test.take(mask.nonzero().view(-1))
                found[name] = ceilings(part.preference, part.draws)
        return found


def with_popularity(prompts: Prompts, log: Prompts) -> Prompts:
    """Add the slices `popular` and `rare`: is the target among the items that, most taken first,
    make up half of the log's targets? A target that the log never took is rare."""
    items = 1 + int(max(prompts.target.max(), log.target.max()))
    count = torch.bincount(log.target, minlength=items)
    order = count.argsort(descending=True, stable=True)
    before = count[order].cumsum(0) - count[order]
    head = torch.zeros(items, dtype=torch.bool)
    head[order[(2 * before < len(log)) & (count[order] > 0)]] = True
    popular = head[prompts.target]
    return replace(prompts, slices={**prompts.slices, "popular": popular, "rare": ~popular})
