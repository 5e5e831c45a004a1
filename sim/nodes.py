"""Trie nodes as rows: what the fast kernels ask of a policy, and products that depend on one run.

Rows of many runs lie in one buffer, run after run, so that elementwise work is done once. Matrix
products are done run by run: their last bits depend on the number of rows and on how operands are
aligned in memory, and a run must not feel its siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from sim.catalogue import Catalogue

Params = dict[str, Tensor]
ALIGNMENT = 64
"""Bytes; what torch's allocator gives a fresh tensor, and the widest vector register."""


@dataclass(frozen=True)
class Rows:
    """n (prompt, node) pairs of one level, run by run.

    prompt `[n]`: r B + b; node `[n]`: index inside the level; run `[n]`; bounds: the R + 1 row
    numbers at which runs begin and the last one ends.
    """

    prompt: Tensor
    node: Tensor
    run: Tensor
    bounds: Sequence[int]

    @staticmethod
    def of(prompt: Tensor, node: Tensor, prompts: int, runs: int) -> Rows:
        """Rows in ascending order of prompt; `prompts` is B."""
        starts = prompts * torch.arange(runs + 1)
        bounds = torch.searchsorted(prompt, starts).tolist()
        return Rows(prompt, node, prompt.div(prompts, rounding_mode="floor"), bounds)


@runtime_checkable
class NodePolicy(Protocol):
    """A policy with hand-written node passes. One without them is trained through autograd.

    encoded is `[R B, ...]`; saved is whatever the backward pass wants back.
    """

    def encode_rows(self, params: Params, context: Tensor) -> Tensor:
        """`[R, B, D]` features -> `[R B, ...]`."""

    def forward_rows(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, level: int, rows: Rows
    ) -> tuple[Tensor, Tensor]:
        """Logits over all K codes `[n, K]`, and saved."""

    def backward_rows(
        self,
        params: Params,
        catalogue: Catalogue,
        level: int,
        rows: Rows,
        saved: Tensor,
        dlogits: Tensor,
        grads: Params,
        dencoded: Tensor,
    ) -> None:
        """Add the gradient of `dlogits` `[n, K]` to grads `[R, ...]` and to dencoded."""

    def encode_backward(self, context: Tensor, dencoded: Tensor, grads: Params) -> None:
        """Add the gradient of the encoding to grads."""


def product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right for the matrices of one run, bit for bit the same wherever they lie."""
    return torch.mm(_aligned(left), _aligned(right))


def run_products(left: Tensor, right: Sequence[Tensor], bounds: Sequence[int]) -> Tensor:
    """Rows `[n, p]` of each run times the matrix `[p, q]` of that run; `[n, q]`."""
    parts = [
        product(left[a:b], matrix) for (a, b), matrix in zip(pairwise(bounds), right, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def tanh_(x: Tensor) -> Tensor:
    """tanh in place. numpy's is several times faster than torch's and just as independent of
    where an element lies."""
    out = x.numpy()
    np.tanh(out, out=out)
    return x


def _aligned(x: Tensor) -> Tensor:
    """x, or a fresh copy where its memory starts off a 64-byte boundary."""
    return x.clone() if x.data_ptr() % ALIGNMENT else x
