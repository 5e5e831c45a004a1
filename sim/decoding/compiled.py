"""Enumeration by compiled code: what `sim.decoding.enumerate` does, some ten times faster.

Shapes: P prompts, c children of a level, n nodes, N items, H hidden units. Memory of the kernel's
scratch lies here, since it allocates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from sim.kernel import enumeration
from sim.kernel.machine_code import calling
from sim.kernel.shapes import Array
from sim.policies.mlp import MLP
from sim.policies.nodes import quietly
from sim.policies.protocol import Params
from sim.worlds.catalogue import Catalogue, TrieLevel

KIND = "evaluation"
"""What is compiled here, as `sim.kernel.machine_code.calling` names it; the type comes on top."""


class ChildrenOfMLP:
    """Logits of the children of all nodes, for one run of an MLP, params `[1, ...]`."""

    @quietly
    def __init__(self, policy: MLP, params: Params, catalogue: Catalogue) -> None:
        self._policy, self._params, self._catalogue = policy, params, catalogue
        own = {name: value[0].numpy() for name, value in params.items()}
        self._node, head = own["node"], own["head"]
        self._by = [np.ascontiguousarray((-2 * matrix).T) for matrix in head]
        self._plus = own["bias"] + head.sum(1)
        # e^20 squared is finite in float32, e^170 squared in float64.
        self._safe = 20.0 if head.dtype == np.float32 else 170.0
        self._wide = not np.abs(self._node).max() < self._safe
        self._powers = None if self._wide else np.exp(2 * self._node)

    @quietly
    def __call__(self, context: Tensor) -> tuple[Tensor, ...]:
        """Per level `[c, P]`, 0 for an only child; context `[P, D]`."""
        encoded = self._policy.encode(self._params, context.unsqueeze(0))[0]
        ready(encoded.dtype)
        x = np.ascontiguousarray(encoded.numpy().T)
        tiles = np.zeros((2, len(x), enumeration.TILE), x.dtype)
        row = np.empty(enumeration.TILE, x.dtype)
        wide = self._wide or not np.abs(x).max() < self._safe
        own = self._node if wide or self._powers is None else self._powers
        left, found = x if wide else np.exp(2 * x), []
        for level, here in enumerate(self._catalogue.levels):
            out = np.zeros((len(here.parent), x.shape[1]), x.dtype)
            enumeration.children_of_mlp(
                wide, left, own[here.offset : here.offset + here.nodes], self._by[level],
                self._plus[level], here.first.numpy(), here.child_code.numpy(), tiles, row, out,
            )  # fmt: skip
            found.append(torch.from_numpy(out))
        return tuple(found)


def descend(here: TrieLevel, logits: Tensor, temperature: float, logp: Tensor) -> Tensor:
    """Log-probabilities of the children of a level `[c, P]` from those of its nodes `[n, P]`."""
    before = logp.numpy()
    after = np.empty(logits.shape, before.dtype)
    shifted = _scratch(here, before)
    sums = np.empty((2, before.shape[1]), before.dtype)
    ready(logits.dtype)
    enumeration.descend(
        logits.numpy(), here.first.numpy(), float(temperature), before, shifted, sums, after
    )
    return torch.from_numpy(after)


def entropy_and_slope(
    catalogue: Catalogue, logits: tuple[Tensor, ...], temperature: float
) -> tuple[Tensor, Tensor]:
    """Entropy over items of each prompt, nats, and its derivative by log T; `[P]` each, float64."""
    prompts = logits[0].shape[1]
    total, slope = np.zeros((2, prompts))
    reach, change = np.ones((1, prompts)), np.zeros((1, prompts))
    sums, deepest = np.empty((4, prompts)), catalogue.depth - 1
    ready(logits[0].dtype)
    for level, here in enumerate(catalogue.levels):
        last = level == deepest
        children = (0 if last else len(here.parent), prompts)
        reached, changed = np.empty(children), np.empty(children)
        shifted, weight = _scratch(here, sums), _scratch(here, sums)
        enumeration.entropies(
            logits[level].numpy(), here.first.numpy(), float(temperature), last, reach, change,
            shifted, weight, sums, total, slope, reached, changed,
        )  # fmt: skip
        reach, change = reached, changed
    return torch.from_numpy(total), torch.from_numpy(slope)


def follow(levels: Sequence[tuple[Tensor, Tensor]], temperatures: Sequence[float]) -> Tensor:
    """Log-probabilities of paths at T temperatures, `[T, P, M]`; levels: see
    `sim.target_paths.Paths`."""
    logp = np.zeros((len(temperatures), *levels[0][1].shape))
    flat = logp.reshape(len(logp), -1)
    total, degrees = np.empty(flat.shape[1]), np.array(temperatures, dtype=np.float64)
    ready(torch.float32)
    for shifted, taken in levels:
        rows = np.ascontiguousarray(shifted.flatten(0, -2).T.numpy())
        enumeration.follow(rows, taken.flatten().numpy(), degrees, total, flat)
    return torch.from_numpy(logp)


@cache
def ready(dtype: torch.dtype) -> None:
    """Compile all that stands here for logits of a type, unless this machine has it: one call of
    each on two children of one node."""
    with calling(dtype, KIND):
        real = torch.empty(0, dtype=dtype).numpy().dtype
        first, code, row = np.array([0, 2]), np.array([0, 1]), np.zeros(2, real)
        pair, wide = np.zeros((2, 2), real), np.zeros((4, 2))
        enumeration.children_of_mlp(
            False, pair, pair[:1], pair, row, first, code, np.zeros((2, 2, 2), real), row, pair
        )
        enumeration.descend(pair, first, 1.0, pair[:1], pair, pair, pair)
        enumeration.entropies(
            pair, first, 1.0, False, wide[:1], wide[:1], wide, wide, wide, wide[0], wide[0],
            wide, wide,
        )  # fmt: skip
        enumeration.follow(wide, wide[0], wide[0] + 1, wide[0], wide)


def _scratch(here: TrieLevel, like: Array) -> Array:
    return np.empty((here.code.shape[1], like.shape[1]), like.dtype)
