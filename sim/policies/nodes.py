"""Trie nodes as rows: what the shared tree asks of a policy, and products that depend on one run.

Rows of many runs lie in one buffer, run after run, so that elementwise work is done once. Matrix
products are done run by run: their last bits depend on the number of rows and on how operands are
aligned in memory, and a run must not feel its siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from sim.worlds.catalogue import Catalogue

Params = dict[str, Tensor]
ALIGNMENT = 64
"""Bytes; what torch's allocator gives a fresh tensor, and the widest vector register."""


@dataclass(frozen=True)
class NodeRows:
    """n (prompt, node) pairs, run by run and inside a run level by level.

    prompt `[n]`: r B + b; place `[n]`: the node among all nodes of the trie; segment `[n]`: r L +
    level, ascending; bounds: the R L + 1 row numbers at which segments begin and the last one ends.
    """

    prompt: Tensor
    place: Tensor
    segment: Tensor
    bounds: Sequence[int]
    _node: list[Tensor] = field(default_factory=list, repr=False, compare=False)

    @staticmethod
    def of(prompt: Tensor, place: Tensor, segment: Tensor, segments: int) -> NodeRows:
        """Rows in ascending order of segment."""
        starts = torch.arange(segments + 1)
        return NodeRows(prompt, place, segment, torch.searchsorted(segment, starts).tolist())

    def node(self, catalogue: Catalogue) -> Tensor:
        """Place of each row's node in a table that stacks the nodes of all runs; `[n]`."""
        if not self._node:
            run = self.segment.div(catalogue.depth, rounding_mode="floor")
            self._node.append(run.mul_(catalogue.nodes).add_(self.place))
        return self._node[0]


@runtime_checkable
class NodePolicy(Protocol):
    """A policy with hand-written node passes. One without them is trained through autograd.

    encoded is `[R B, ...]`; saved is whatever the backward pass wants back.
    """

    def forward_rows(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, rows: NodeRows
    ) -> tuple[Tensor, Tensor]:
        """Logits over all K codes `[n, K]`, and saved."""

    def backward_rows(
        self,
        params: Params,
        catalogue: Catalogue,
        rows: NodeRows,
        saved: Tensor,
        dlogits: Tensor,
        grads: Params,
        dencoded: Tensor,
    ) -> None:
        """Add the gradient of `dlogits` `[n, K]` to grads `[R, ...]` and to dencoded."""


SMALL = 200_000
"""Multiplications of one product up to which numpy does it: on one thread, with less overhead than
torch by far, and with the same bits wherever operands lie. Longer ones are done piece by piece."""
quietly = np.errstate(over="ignore", invalid="ignore")
"""What overflows is seen by its NaN or size, as in torch."""


@quietly
def segment_products(left: Tensor, right: Tensor, bounds: Sequence[int]) -> Tensor:
    """Rows `[n, p]` of each segment times the matrix of that segment, right `[S, p, q]`; `[n, q]`.

    Every product is what its segment gives alone.
    """
    out = left.new_empty(left.shape[0], right.shape[2])
    a, b, to = left.numpy(), right.numpy(), out.numpy()
    for i, (first, last) in enumerate(pairwise(bounds)):
        if first < last:
            _product(a[first:last], b[i], to[first:last])
    return out


@quietly
def segment_outer(left: Tensor, right: Tensor, bounds: Sequence[int], out: Tensor) -> None:
    """Add left^T right of each segment's rows, left `[n, p]`, right `[n, q]`, to out `[S, p, q]`;
    segments without rows are left as they are."""
    a, b, to = left.numpy(), right.numpy(), out.numpy()
    per_row = left.shape[1] * right.shape[1]
    piece = max(1, SMALL // per_row)
    for i, (first, last) in enumerate(pairwise(bounds)):
        for start in range(first, last, piece):
            part = slice(start, min(start + piece, last))
            to[i] += (
                _large(a[part].T, b[part]) if per_row > SMALL else np.matmul(a[part].T, b[part])
            )


def _product(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    per_row = right.shape[0] * right.shape[1]
    if per_row > SMALL:
        out[:] = _large(left, right)
        return
    piece = SMALL // per_row
    for start in range(0, len(left), piece):
        np.matmul(left[start : start + piece], right, out=out[start : start + piece])


def _large(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """By torch, whose bits depend on how operands lie: so they are copied where they must be."""
    return torch.mm(*(_aligned(torch.from_numpy(x)) for x in (left, right))).numpy()


def tanh_(x: Tensor) -> Tensor:
    """tanh in place, of any shape. numpy's is several times faster than torch's and just as
    independent of where an element lies."""
    out = x.numpy()
    np.tanh(out, out=out)
    return x


def _aligned(x: Tensor) -> Tensor:
    """x, or a fresh copy where its memory starts off a 64-byte boundary."""
    return x.clone() if x.data_ptr() % ALIGNMENT else x
