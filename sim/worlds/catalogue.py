"""A catalogue of items as a trie of semantic IDs, in tensors.

N items with L codes each, every code in 0..K-1. Level l of the trie has n_l internal nodes; the
children of a node are stored in W_l slots (padded), so that work follows live children, not K.
For enumeration the children of a level lie in one row, in order of their parents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class TrieLevel:
    """One level of the trie. code, child `[n, W]` int64 (child: node of the next level, or item);
    mask `[n, W]` bool, live slots; parent `[c]`: node of each of the c children, in their order.
    allowed `[n, K]` bool; next `[n, K]` int64, -1 where dead."""

    offset: int
    code: Tensor
    child: Tensor
    mask: Tensor
    allowed: Tensor
    next: Tensor
    parent: Tensor

    @property
    def nodes(self) -> int:
        """Internal nodes of this level."""
        return self.code.shape[0]

    @cached_property
    def first(self) -> Tensor:
        """`[n + 1]`: the children of node i are `first[i]` to `first[i + 1]`."""
        return torch.searchsorted(self.parent, torch.arange(self.nodes + 1))

    @cached_property
    def child_code(self) -> Tensor:
        """`[c]`: the code that leads to each child."""
        return self.code[self.mask]


@dataclass(frozen=True)
class Catalogue:
    """codes `[N, L]` int64, distinct, in lexicographic order; path `[N, L]`: the node that each
    code of an item is chosen at (local to its level); void bool `[N]`: leaves that are no items but
    dead ends of free decoding (`sim.worlds.free_decoding`); None = there are none."""

    codes: Tensor
    path: Tensor
    levels: tuple[TrieLevel, ...]
    n_codes: int
    void: Tensor | None = None

    @property
    def items(self) -> int:
        return self.codes.shape[0]

    @property
    def depth(self) -> int:
        return self.codes.shape[1]

    @cached_property
    def nodes(self) -> int:
        """Internal nodes of all levels."""
        return sum(level.nodes for level in self.levels)

    @cached_property
    def places(self) -> Tensor:
        """`path` among the nodes of all levels; `[N, L]`."""
        return self.path + torch.tensor([level.offset for level in self.levels])

    @cached_property
    def prefixes(self) -> tuple[Tensor, ...]:
        """The codes that lead to each node, per level l: int64 `[n_l, l]`."""
        found = []
        for level, here in enumerate(self.levels):
            prefix = torch.zeros(here.nodes, level, dtype=torch.int64)
            prefix[self.path[:, level]] = self.codes[:, :level]
            found.append(prefix)
        return tuple(found)

    @cached_property
    def dead(self) -> Tensor:
        """Codes without a child at each node of all levels; bool `[nodes, K]`."""
        return ~torch.cat([level.allowed for level in self.levels])

    @cached_property
    def follow(self) -> Tensor:
        """Where each code leads: a node of all levels, or at the last level an item; int64
        `[nodes, K]`, the first of these where dead."""
        after = [level.offset for level in self.levels[1:]] + [0]
        pairs = zip(self.levels, after, strict=True)
        return torch.cat([level.next.clamp(min=0) + shift for level, shift in pairs])


def build_catalogue(codes: np.ndarray, n_codes: int) -> Catalogue:
    """The trie of distinct semantic IDs; codes integer `[N, L]`, sorted here.

    Raises ValueError when codes repeat an ID or leave 0..n_codes-1.
    """
    if codes.ndim != 2 or not codes.size:
        raise ValueError(f"codes: expected a non-empty [N, L] array, got shape {codes.shape}")
    if codes.min() < 0 or codes.max() >= n_codes:
        raise ValueError(
            f"codes: {int(codes.max() if codes.max() >= n_codes else codes.min())} lies outside "
            f"the codebook 0..{n_codes - 1}"
        )
    ordered = np.unique(codes, axis=0)
    if len(ordered) != len(codes):
        raise ValueError(f"codes: {len(codes) - len(ordered)} repeated semantic IDs")
    depth = codes.shape[1]
    prefixes = [
        np.unique(ordered[:, : level + 1], axis=0, return_inverse=True)[1].reshape(-1)
        for level in range(depth)
    ]
    parents = [np.zeros(len(ordered), dtype=np.int64), *prefixes[:-1]]
    levels, offset = [], 0
    for level in range(depth):
        edges = np.unique(
            np.stack([parents[level], ordered[:, level], prefixes[level]], axis=1), axis=0
        )
        n = int(edges[:, 0].max()) + 1
        counts = np.bincount(edges[:, 0], minlength=n)
        slot = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts)
        code = np.zeros((n, counts.max()), dtype=np.int64)
        child, mask = np.zeros_like(code), np.zeros(code.shape, dtype=bool)
        code[edges[:, 0], slot], child[edges[:, 0], slot] = edges[:, 1], edges[:, 2]
        mask[edges[:, 0], slot] = True
        follow = np.full((n, n_codes), -1, dtype=np.int64)
        follow[edges[:, 0], edges[:, 1]] = edges[:, 2]
        parent = edges[np.argsort(edges[:, 2]), 0]
        levels.append(
            TrieLevel(
                offset,
                code=torch.from_numpy(code),
                child=torch.from_numpy(child),
                mask=torch.from_numpy(mask),
                allowed=torch.from_numpy(follow >= 0),
                next=torch.from_numpy(follow),
                parent=torch.from_numpy(parent),
            )
        )
        offset += n
    return Catalogue(
        torch.from_numpy(ordered), torch.from_numpy(np.stack(parents, 1)), tuple(levels), n_codes
    )


def synthetic_codes(
    rng: np.random.Generator, items: int, depth: int, n_codes: int, skew: float
) -> np.ndarray:
    """Distinct random semantic IDs with skewed occupancy; int64 `[items, depth]`, sorted.

    Each level draws its codes from a Zipf-like distribution with exponent `skew`, permuted per
    parent, so that some prefixes are crowded and most possible ones are empty.
    Raises ValueError when more items are asked for than IDs exist.
    """
    if items > n_codes**depth:
        raise ValueError(f"items: {items} do not fit into {n_codes}^{depth} semantic IDs")
    weight = np.arange(1, n_codes + 1, dtype=np.float64) ** -skew
    log_mass = np.zeros(1)
    for _ in range(depth):
        level = np.stack([rng.permutation(np.log(weight)) for _ in range(len(log_mass))])
        log_mass = (log_mass[:, None] + level).reshape(-1)
    chosen = np.sort(np.argsort(-(log_mass + rng.gumbel(size=len(log_mass))))[:items])
    return np.stack(np.unravel_index(chosen, (n_codes,) * depth), axis=1).astype(np.int64)
