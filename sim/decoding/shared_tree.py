"""The shared tree: every visited node of the trie costs one forward and one backward row.

Rollouts of a prompt share prefixes. At a node they all see the same logits, so logits are computed
once per visited (prompt, node). If w_i is the derivative of a loss by log p(code_i | node) of
rollout i, the gradient on the node's logits is sum_i w_i onehot(code_i) - (sum_i w_i) pi: one
backward row per node, equal to backpropagation through every rollout.

Shapes: R runs, B prompts, M rollouts, L levels, K codes; n rows are visited at a level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sim.policies.nodes import NodePolicy, NodeRows, Params
from sim.worlds.catalogue import Catalogue


class Softmax(NamedTuple):
    """Softmax over the live codes of n nodes, in parts: logits less their maximum, `[n, K]`, the
    exp of these, and its sum `[n, 1]`."""

    shifted: Tensor
    weight: Tensor
    total: Tensor

    @staticmethod
    def of(logits: Tensor, catalogue: Catalogue, rows: NodeRows) -> Softmax:
        """Overwrites logits `[n, K]` of the rows."""
        logits.masked_fill_(catalogue.dead.index_select(0, rows.place), -torch.inf)
        shifted = logits.sub_(logits.amax(-1, keepdim=True))
        weight = torch.from_numpy(np.exp(shifted.numpy()))
        return Softmax(shifted, weight, weight.sum(-1, keepdim=True))

    @property
    def logp(self) -> Tensor:
        """Log-probabilities `[n, K]`, nats; -inf at dead codes."""
        return self.shifted - self.total.log()

    def heat(self, temperature: float) -> Tensor:
        """Sampling weights `[n, K]`, not normalised."""
        return self.weight if temperature == 1.0 else (self.shifted / temperature).exp()

    def pull(self, weight: Tensor) -> Tensor:
        """Gradient on the logits when log p(code) has derivative `weight` `[n, K]`."""
        return weight - self.weight * (weight.sum(-1, keepdim=True) / self.total)


@dataclass(frozen=True)
class VisitedNodes:
    """The visited nodes of one level; at, code `[R B M]`: row and code of each rollout."""

    rows: NodeRows
    saved: Tensor
    softmax: Softmax
    at: Tensor
    code: Tensor

    @property
    def place(self) -> Tensor:
        """Flat index into `[n, K]` of what each rollout chose."""
        return self.at * self.softmax.weight.shape[1] + self.code


Pick = Callable[[int, Softmax, Tensor], Tensor]
"""(level, softmax of the rows, row of each rollout) -> code of each rollout."""


def invert(cdf: np.ndarray, row: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Codes `[n]` that draws in [0, 1) give: uniform `[n]`, each by the cumulative weights of its
    row of cdf `[m, K]`. Never a code without weight, unless the row has none or a NaN, as only runs
    do that are about to be stopped; then any code.

    A binary search of all draws together, several times faster than torch's on short rows.
    """
    last = cdf[:, -1]
    below = np.nextafter(last, np.zeros_like(last))
    point = uniform.astype(cdf.dtype, copy=False) * last.take(row)
    point = np.minimum(point, below.take(row), out=point)
    codes = cdf.shape[1]
    wide = 1 << (codes - 1).bit_length()
    if wide > codes:
        narrow, cdf = cdf, np.full((len(cdf), wide), np.inf, cdf.dtype)
        cdf[:, :codes] = narrow
    bounds, start = cdf.reshape(-1), row * wide - 1
    place, step = start, wide // 2
    while step:
        place = place + step * (bounds.take(place + step) <= point)
        step //= 2
    found: np.ndarray = np.minimum(place - start, codes - 1)
    return found


def sample_items(
    policy: NodePolicy,
    params: Params,
    catalogue: Catalogue,
    encoded: Tensor,
    uniform: Tensor,
    temperature: float,
) -> Tensor:
    """Items `[R, B, M]` from draws `[R, B, M, L]` in [0, 1), each code at `temperature`."""

    def pick(level: int, softmax: Softmax, at: Tensor) -> Tensor:
        cdf = softmax.heat(temperature).cumsum(-1).numpy()
        return torch.from_numpy(invert(cdf, at.numpy(), uniform[..., level].reshape(-1).numpy()))

    items, _ = walk(policy, params, catalogue, encoded, uniform.shape[:3], pick)
    return items


def tree_logp(
    policy: NodePolicy, params: Params, catalogue: Catalogue, encoded: Tensor, item: Tensor
) -> Tensor:
    """Log-probability of each code of given items at T = 1, with gradient; `[R, B, M, L]`, nats."""
    names = tuple(params)
    apply: Callable[..., Tensor] = _TreeLogp.apply
    return apply(policy, catalogue, item, names, encoded, *(params[name] for name in names))


class _TreeLogp(torch.autograd.Function):
    """Log-probabilities on the shared tree; backward is one row per visited node."""

    @staticmethod
    def forward(
        ctx: Any,
        policy: NodePolicy,
        catalogue: Catalogue,
        item: Tensor,
        names: tuple[str, ...],
        encoded: Tensor,
        *values: Tensor,
    ) -> Tensor:
        codes = catalogue.codes[item.reshape(-1)]
        params = dict(zip(names, values, strict=True))
        flat = encoded.flatten(0, 1)

        def pick(level: int, softmax: Softmax, at: Tensor) -> Tensor:
            return codes[:, level]

        _, visits = walk(policy, params, catalogue, flat, item.shape, pick)
        ctx.walked = policy, catalogue, params, flat, encoded.shape, visits
        steps = [
            v.softmax.shifted.view(-1).index_select(0, v.place)
            - v.softmax.total.log().view(-1).index_select(0, v.at)
            for v in visits
        ]
        return torch.stack(steps, dim=-1).view(*item.shape, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        policy, catalogue, params, flat, shape, visits = ctx.walked
        weight = gradients[0].reshape(-1, catalogue.depth)
        grads = {name: torch.zeros_like(value) for name, value in params.items()}
        dencoded = torch.zeros_like(flat)
        for level, visit in enumerate(visits):
            pull = torch.zeros_like(visit.softmax.weight)
            pull.view(-1).index_add_(0, visit.place, weight[:, level].contiguous())
            dlogits = visit.softmax.pull(pull)
            policy.backward_rows(
                params, catalogue, visit.rows, visit.saved, dlogits, grads, dencoded
            )
        return None, None, None, None, dencoded.view(shape), *grads.values()


def walk(
    policy: NodePolicy,
    params: Params,
    catalogue: Catalogue,
    encoded: Tensor,
    shape: tuple[int, ...],
    pick: Pick,
) -> tuple[Tensor, list[VisitedNodes]]:
    """Walk rollouts of the given shape `[R, B, M]` down the trie together.

    encoded `[R B, ...]`. Returns their items and what was visited, level by level.
    """
    runs, prompts, group = shape
    owner = torch.arange(runs * prompts).repeat_interleave(group)
    place = torch.zeros_like(owner)
    visits = []
    for level in range(catalogue.depth):
        rows, at = _distinct(owner, place, catalogue, level, prompts, runs)
        logits, saved = policy.forward_rows(params, encoded, catalogue, rows)
        softmax = Softmax.of(logits, catalogue, rows)
        code = pick(level, softmax, at)
        visits.append(VisitedNodes(rows, saved, softmax, at, code))
        # Only NaN logits draw a code that no item has; `follow` leads it somewhere, see `invert`.
        place = catalogue.follow[place, code]
    return place.view(shape), visits


def _distinct(
    prompt: Tensor, place: Tensor, catalogue: Catalogue, level: int, prompts: int, runs: int
) -> tuple[NodeRows, Tensor]:
    """The distinct (prompt, node) pairs as rows, and the row of each pair."""
    here = catalogue.levels[level]
    key = prompt * here.nodes + (place - here.offset)
    size = runs * prompts * here.nodes
    if size <= 16 * key.numel():
        seen = torch.zeros(size, dtype=torch.bool)
        seen[key] = True
        found = seen.nonzero().squeeze(1)
        at = (seen.cumsum(0) - 1).index_select(0, key)
    else:
        found, at = torch.unique(key, return_inverse=True)
    owner = found.div(here.nodes, rounding_mode="floor")
    segment = owner.div(prompts, rounding_mode="floor") * catalogue.depth + level
    place = found - owner * here.nodes + here.offset
    return NodeRows.of(owner, place, segment, runs * catalogue.depth), at
