"""The catalogue as a trie of codes: which codes may follow a prefix.

Depth l has n_l nodes; node 0 of depth 0 is the root. A node of depth L is an item: its index is
the semantic ID's place in the sorted catalogue. Nodes of a depth are sorted, so the children of a
node are neighbours: the trie is one number per node and two per edge, whatever the codebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recast.items import Codes


@dataclass(frozen=True)
class Trie:
    """Per level l of L: `first[l]` `[n_l + 1]`, where each node's children begin among the nodes of
    depth l + 1; `label[l]` and `parent[l]` `[n_(l+1)]`, the code that leads to each of those and
    the node that it leaves; `width[l]`, the largest number of children, W_l. codes `[N, L]`: the
    items."""

    first: tuple[Tensor, ...]
    label: tuple[Tensor, ...]
    parent: tuple[Tensor, ...]
    width: tuple[int, ...]
    codes: Tensor

    @property
    def depth(self) -> int:
        """Codes per item, L."""
        return len(self.label)

    @property
    def items(self) -> int:
        """Distinct semantic IDs, N."""
        return self.codes.shape[0]

    def nodes(self, level: int) -> int:
        """How many nodes depth `level` has."""
        return len(self.first[level]) - 1

    def to(self, device: torch.device) -> Trie:
        """The same trie on another device."""
        first, label, parent = (
            tuple(t.to(device) for t in level) for level in (self.first, self.label, self.parent)
        )
        return Trie(first, label, parent, self.width, self.codes.to(device))

    def below(self, level: int, node: Tensor) -> tuple[Tensor, Tensor]:
        """Codes that may follow nodes `[...]` of depth `level`, and which of them are real; both
        `[..., W_l]`, padded with code 0."""
        slot = torch.arange(self.width[level], device=node.device)
        start = self.first[level][node].unsqueeze(-1)
        real = slot < self.first[level][node + 1].unsqueeze(-1) - start
        place = (start + slot).clamp(max=len(self.label[level]) - 1)
        return self.label[level][place].masked_fill(~real, 0), real

    def step(self, level: int, node: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """The code of a node's child and the child's own node, both `[...]`; a slot beyond the
        children gives some other node."""
        child = (self.first[level][node] + slot).clamp(max=len(self.label[level]) - 1)
        return self.label[level][child], child

    def walk(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Follow code paths `[..., L]`.

        Returns nodes `[..., L]` (the node before each code), slots `[..., L]` (which child), and
        item `[...]`. Raises ValueError when a path leaves the trie.
        """
        node = torch.zeros_like(codes[..., 0])
        nodes, slots = [], []
        for level, (label, parent) in enumerate(zip(self.label, self.parent, strict=True)):
            # Edges are sorted by the node that they leave, then by code.
            span = int(label.max()) + 1
            wanted = node * span + codes[..., level]
            child = torch.searchsorted(parent * span + label, wanted).clamp(max=len(label) - 1)
            found = (parent[child] == node) & (label[child] == codes[..., level])
            if not bool(found.all()):
                lost = codes.reshape(-1, self.depth)[~found.reshape(-1)][0].tolist()
                raise ValueError(f"codes {lost} are not an item of the catalogue")
            nodes.append(node)
            slots.append(child - self.first[level][node])
            node = child
        return torch.stack(nodes, -1), torch.stack(slots, -1), node


def build_trie(sids: Sequence[Codes]) -> Trie:
    """The trie of distinct semantic IDs, sorted. Raises ValueError for none, or uneven depths."""
    items = sorted(set(sids))
    if not items or len({len(sid) for sid in items}) != 1:
        raise ValueError("a trie needs at least one semantic ID, all of one depth")
    codes = torch.tensor(items)
    above = torch.zeros(len(items), dtype=torch.int64)
    first, label, parent, width, nodes = [], [], [], [], 1
    begins = torch.zeros(len(items), dtype=torch.bool)
    begins[0] = True
    for level in range(codes.shape[1]):
        # An item begins a node when it differs from the one before in any code so far.
        begins[1:] |= codes[1:, level] != codes[:-1, level]
        parent.append(above[begins].clone())
        children = torch.bincount(parent[-1], minlength=nodes)
        first.append(torch.cat([children.new_zeros(1), children.cumsum(0)]))
        label.append(codes[begins, level].clone())
        width.append(int(children.max()))
        above, nodes = begins.cumsum(0) - 1, int(begins.sum())
    return Trie(tuple(first), tuple(label), tuple(parent), tuple(width), codes)
