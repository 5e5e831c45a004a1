"""Where a policy's probability goes along the way to a prompt's target: every sibling on its path.

At each level of the semantic ID the children of the node that the target passes through share the
probability of getting there; a policy that learns the target moves it onto the target's own child.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sim.decoding.enumerate import enumerate_logits, item_logp
from sim.policies.protocol import Params, Policy
from sim.worlds.catalogue import Catalogue


@dataclass(frozen=True)
class Branch:
    """One prompt's target in the trie. codes: per level the codes of the children of the node that
    the target passes through, ascending; place: per level which of them is the target's; items: per
    level `[N]` int64, the child below which an item lies, -1 for an item elsewhere."""

    target: int
    codes: tuple[tuple[int, ...], ...]
    place: tuple[int, ...]
    items: tuple[Tensor, ...]


def branch_of(catalogue: Catalogue, target: int) -> Branch:
    """The children beside the path to a target, an item of the catalogue."""
    own = catalogue.codes[target]
    here = torch.ones(catalogue.items, dtype=torch.bool)
    codes, place, items = [], [], []
    for level in range(catalogue.depth):
        column = catalogue.codes[:, level].contiguous()
        known = torch.unique(column[here])
        below = torch.searchsorted(known, column).clamp_(max=len(known) - 1)
        items.append(torch.where(here, below, -1))
        codes.append(tuple(known.tolist()))
        place.append(codes[-1].index(int(own[level])))
        here = here & (column == own[level])
    return Branch(target, tuple(codes), tuple(place), tuple(items))


def masses(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    context: Tensor,
    branches: list[Branch],
) -> list[list[list[float]]]:
    """Probability that one rollout at T = 1 goes through each child, `[prompt][level][child]`.

    params: of one run, `[1, ...]`; context `[P, D]`, one row per branch. The children of a level
    sum to the target's own child of the level before.
    """
    share = item_logp(enumerate_logits(policy, params, catalogue, context)).exp().double()
    found = []
    for prompt, branch in enumerate(branches):
        levels = []
        for codes, items in zip(branch.codes, branch.items, strict=True):
            there = items >= 0
            total = torch.zeros(len(codes), dtype=torch.float64)
            total.index_add_(0, items[there], share[there, prompt])
            levels.append(total.tolist())
        found.append(levels)
    return found
