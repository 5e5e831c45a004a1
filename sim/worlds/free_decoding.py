"""Free decoding: codes are chosen from the whole codebook, so that a rollout may be no item at all.

The catalogue is extended by its dead ends. Every code that leads nowhere at a live node becomes a
leaf of its own (filled up with code 0, which is then the only choice, so that nothing further is
drawn or learnt): a rollout ends with its first impossible code. Sampling down the extended trie is
unconstrained decoding, and the chance of a dead end is known exactly. Nothing else changes: a dead
end is never a target, so its reward is 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sim.worlds.catalogue import Catalogue, build_catalogue
from sim.worlds.world import Prompts, World

MOST_DEAD_ENDS = 65_536


def free_catalogue(catalogue: Catalogue) -> Catalogue:
    """The catalogue with its dead ends as further leaves, marked in `void`.

    Raises ValueError for more than `MOST_DEAD_ENDS` of them.
    """
    depth, found = catalogue.depth, [catalogue.codes.numpy()]
    size = sum(int((~level.allowed).sum()) for level in catalogue.levels)
    if size > MOST_DEAD_ENDS:
        raise ValueError(
            f"free decoding of this catalogue has {size:,} dead ends; expected at most "
            f"{MOST_DEAD_ENDS:,}: too many to enumerate"
        )
    for here, prefix in zip(catalogue.levels, catalogue.prefixes, strict=True):
        node, code = (~here.allowed).nonzero(as_tuple=True)
        rows = np.zeros((len(node), depth), dtype=np.int64)
        rows[:, : prefix.shape[1]] = prefix[node].numpy()
        rows[:, prefix.shape[1]] = code.numpy()
        found.append(rows)
    codes = np.concatenate(found)
    free = build_catalogue(codes, catalogue.n_codes)
    void = torch.ones(free.items, dtype=torch.bool)
    void[places(catalogue, free)] = False
    return replace(free, void=void)


def places(catalogue: Catalogue, free: Catalogue) -> Tensor:
    """Where each item stands among the leaves of the extended catalogue; int64 `[N]`."""
    node = torch.zeros(catalogue.items, dtype=torch.int64)
    for level, here in enumerate(free.levels):
        node = here.next[node, catalogue.codes[:, level]]
    return node


def free_world(world: World) -> World:
    """The same prompts in front of a policy that may leave the catalogue.

    Raises ValueError as `free_catalogue` does.
    """
    free = free_catalogue(world.catalogue)
    place = places(world.catalogue, free)

    def moved(prompts: Prompts) -> Prompts:
        targets, preference = prompts.targets, prompts.preference
        if targets is not None:
            targets = place[targets.clamp(min=0)].masked_fill(targets < 0, -1)
        if preference is not None:
            wide = preference.new_zeros(len(preference), free.items)
            preference = wide.index_copy_(1, place, preference)
        return replace(
            prompts, target=place[prompts.target], targets=targets, preference=preference
        )

    ends = free.items - world.catalogue.items
    return replace(
        world,
        catalogue=free,
        sft=moved(world.sft),
        train=moved(world.train),
        validation=moved(world.validation),
        test=moved(world.test),
        notes=(
            *world.notes,
            f"free decoding: {world.catalogue.items} items and {ends} dead ends; a rollout that "
            "leaves the catalogue is invalid and earns nothing (invalid_share)",
        ),
    )
