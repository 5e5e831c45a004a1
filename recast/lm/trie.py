"""The catalogue as a trie of codes: which codes may follow a prefix.

Depth l has n_l nodes; node 0 of depth 0 is the root. A node of depth L is an item: its index is
the semantic ID's place in the sorted catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Codes = tuple[int, ...]


@dataclass(frozen=True)
class Trie:
    """Per level l of L: `code[l]`, `child[l]`, `allowed[l]`, each `[n_l, W_l]`, W_l = the largest
    number of children; padding has code 0, child 0 and allowed False. codes `[N, L]`: the items."""

    code: tuple[Tensor, ...]
    child: tuple[Tensor, ...]
    allowed: tuple[Tensor, ...]
    codes: Tensor

    @property
    def depth(self) -> int:
        """Codes per item, L."""
        return len(self.code)

    @property
    def items(self) -> int:
        """Distinct semantic IDs, N."""
        return self.codes.shape[0]

    def to(self, device: torch.device) -> Trie:
        """The same trie on another device."""
        code, child, allowed = (
            tuple(t.to(device) for t in level) for level in (self.code, self.child, self.allowed)
        )
        return Trie(code, child, allowed, self.codes.to(device))

    def walk(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Follow code paths `[..., L]`.

        Returns nodes `[..., L]` (the node before each code), slots `[..., L]` (which child), and
        item `[...]`. Raises ValueError when a path leaves the trie.
        """
        node = torch.zeros_like(codes[..., 0])
        nodes, slots = [], []
        for level in range(self.depth):
            same = (self.code[level][node] == codes[..., level, None]) & self.allowed[level][node]
            if not bool(same.any(-1).all()):
                lost = codes.reshape(-1, self.depth)[~same.any(-1).reshape(-1)][0].tolist()
                raise ValueError(f"codes {lost} are not an item of the catalogue")
            slot = same.to(torch.uint8).argmax(-1)
            nodes.append(node)
            slots.append(slot)
            node = self.child[level][node, slot]
        return torch.stack(nodes, -1), torch.stack(slots, -1), node


def build_trie(sids: Sequence[Codes]) -> Trie:
    """The trie of distinct semantic IDs, sorted. Raises ValueError for none, or uneven depths."""
    items = sorted(set(sids))
    if not items or len({len(sid) for sid in items}) != 1:
        raise ValueError("a trie needs at least one semantic ID, all of one depth")
    depth = len(items[0])
    code, child, allowed = [], [], []
    prefixes: list[Codes] = [()]
    for level in range(depth):
        longer = sorted({sid[: level + 1] for sid in items})
        place = {prefix: i for i, prefix in enumerate(longer)}
        below: dict[Codes, list[Codes]] = {prefix: [] for prefix in prefixes}
        for prefix in longer:
            below[prefix[:-1]].append(prefix)
        width = max(len(found) for found in below.values())
        shape = (len(prefixes), width)
        code.append(torch.zeros(shape, dtype=torch.int64))
        child.append(torch.zeros(shape, dtype=torch.int64))
        allowed.append(torch.zeros(shape, dtype=torch.bool))
        for row, prefix in enumerate(prefixes):
            found = below[prefix]
            code[-1][row, : len(found)] = torch.tensor([p[-1] for p in found])
            child[-1][row, : len(found)] = torch.tensor([place[p] for p in found])
            allowed[-1][row, : len(found)] = True
        prefixes = longer
    return Trie(tuple(code), tuple(child), tuple(allowed), torch.tensor(items))
