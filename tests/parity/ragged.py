"""Random ragged batches, in the project's layout and in the flat one that trainers use.

Every drawn group holds at least two rollouts: verl keeps the raw reward of a lone rollout as its
advantage and others give NaN, while here it gets 0 (`tests/recast/test_strategy.py` tests that).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recast import RolloutGroups

BINARY, GRADED, SIGNED = "binary", "graded", "signed"


@dataclass(frozen=True)
class Ragged:
    """`groups` `[B, G]` beside the same rollouts in a shuffled flat order of N rows.

    slot: row and column in `groups` of each flat rollout; tokens `[N, T]` carries the outcome on
    the last token of each response; mask `[N, T]` marks the response; index: a text per rollout,
    equal inside a group, as trainers label them.
    """

    groups: RolloutGroups
    slot: tuple[Tensor, Tensor]
    tokens: Tensor
    mask: Tensor
    index: np.ndarray

    def flat(self, grid: Tensor) -> Tensor:
        """The entries of `[B, G]` (or `[B, G, L]`) in flat order; `[N]` (or `[N, L]`)."""
        return grid[self.slot]


def draw(seed: int, rewards: str = BINARY, dtype: torch.dtype = torch.float64) -> Ragged:
    """2-5 groups of 2-9 rollouts, responses of 1-4 tokens; one group in five is constant."""
    rng = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=rng)

    prompts, width = int(integers(2, 5, 1)), int(integers(2, 9, 1))
    # Quarters are exact in float32, so a reference that computes in float32 meets equal rewards.
    reward = {
        BINARY: lambda: integers(0, 1, prompts, width) * integers(0, 1, prompts, width),
        GRADED: lambda: integers(0, 4, prompts, width) / 4,
        SIGNED: lambda: integers(-8, 8, prompts, width) / 4,
    }[rewards]().to(dtype)
    reward = torch.where(integers(0, 4, prompts, 1) == 0, reward[:, :1], reward)
    sizes = integers(2, width, prompts, 1)
    valid = torch.rand(prompts, width, generator=rng).argsort(-1) < sizes
    length = integers(1, 4, prompts, width)

    order = torch.randperm(int(valid.sum()), generator=rng)
    prompt, column = (axis[order] for axis in valid.nonzero(as_tuple=True))
    last = length[prompt, column]
    tokens = torch.zeros(len(order), int(last.max()), dtype=dtype)
    tokens[torch.arange(len(order)), last - 1] = reward[prompt, column]
    mask = (torch.arange(tokens.shape[1]) < last.unsqueeze(-1)).to(dtype)
    groups = RolloutGroups.of(reward, valid=valid, length=length)
    labels = np.array([f"prompt {int(p)}" for p in prompt], dtype=object)
    return Ragged(groups, (prompt, column), tokens, mask, labels)


def many(count: int, rewards: str, dtype: torch.dtype = torch.float64) -> Iterator[Ragged]:
    """`count` batches, the same ones each time."""
    return (draw(seed, rewards, dtype) for seed in range(count))
