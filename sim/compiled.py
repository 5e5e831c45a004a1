"""The fast path's two heavy parts as a compiled kernel, for MLP policies: `sim.lazy` in numba.

An option: it needs the extra `fast`. `score_path` and `descend` take and return what those of
`sim.lazy` do, and a step draws from the same laws, with other numbers: which kernel trained a run
is part of its name.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sim import kernels, lazy
from sim.catalogue import Catalogue
from sim.lazy import Demand, Generators, Path, Reference, Walkers, layout, onward
from sim.nodes import SMALL, NodePolicy, Params, Rows
from sim.policy import MLP
from sim.tree import Softmax


def serves(policy: NodePolicy, catalogue: Catalogue) -> bool:
    """Whether this kernel trains the policy: an MLP whose single row is a small product."""
    return isinstance(policy, MLP) and policy.width * catalogue.n_codes <= SMALL


def score_path(
    policy: NodePolicy,
    params: Params,
    catalogue: Catalogue,
    encoded: Tensor,
    target: Tensor,
    temperature: float,
) -> Path:
    """As `sim.lazy.score_path`."""
    del policy
    (runs, prompts), depth, codes = target.shape, catalogue.depth, catalogue.n_codes
    prompt, segment, first, _ = layout(runs, prompts, depth, codes)
    place, code = (torch.empty_like(prompt) for _ in range(2))
    saved = encoded.new_empty(len(prompt), encoded.shape[1])
    shifted, weight, off = (encoded.new_empty(len(prompt), codes) for _ in range(3))
    total = encoded.new_empty(len(prompt))
    logp = encoded.new_empty(runs * prompts, depth)
    reach, leave = np.ones((len(logp), depth + 1)), np.empty((len(logp), depth))
    out = (place, code, saved, shifted, weight, total, off, logp)
    kernels.score(
        *_arrays(encoded, *_network(params), catalogue.dead, catalogue.places, catalogue.codes),
        target.numpy(),
        temperature,
        _piece(params["head"]),
        *_arrays(*out),
        reach,
        leave,
    )
    rows = Rows(prompt, place, segment, range(0, len(prompt) + 1, prompts))
    softmax = Softmax(shifted, weight, total.unsqueeze(-1))
    return Path(rows, saved, softmax, off, code, first, logp, reach, leave, prompts)


def descend(
    policy: NodePolicy,
    params: Params,
    catalogue: Catalogue,
    context: Tensor,
    encoded: Tensor,
    path: Path,
    demand: Demand,
    rngs: Generators,
    temperature: float,
    reference: Reference | None = None,
    *,
    name_items: bool = False,
) -> tuple[Params, Walkers | None]:
    """As `sim.lazy.descend`, which serves a KL term."""
    if reference is not None:
        return lazy.descend(
            policy,
            params,
            catalogue,
            context,
            encoded,
            path,
            demand,
            rngs,
            temperature,
            reference,
            name_items=name_items,
        )
    miss = np.ascontiguousarray(demand.miss.numpy())
    through = onward(demand.hit, demand.count * miss).astype(miss.dtype)
    # A miss that leaves at one level draws a code there and at every level below.
    draws = (demand.count * np.arange(catalogue.depth, 0, -1)).sum(1)
    parts = pairwise(path.bounds)
    uniform = [rng.random(draws[a:b].sum()) for rng, (a, b) in zip(rngs, parts, strict=True)]
    ends = np.cumsum([0, *map(len, uniform)])
    grads = {name: torch.zeros_like(value) for name, value in params.items()}
    found = kernels.walk(
        *_arrays(context, encoded, *_network(params), catalogue.dead, catalogue.follow),
        *_arrays(path.rows.place, path.code, path.saved, path.softmax.weight, path.softmax.total),
        path.off.numpy(),
        through,
        demand.count,
        miss,
        np.concatenate(uniform),
        ends,
        temperature,
        _piece(params["head"]),
        _piece(params["input"]),
        *_arrays(grads["input"], *_network(grads)),
        name_items,
    )
    if not name_items:
        return grads, None
    order = found[0].argsort(kind="stable")
    return grads, Walkers(*(column.take(order) for column in found))


def adam(
    value: Tensor,
    grad: Tensor,
    mean: Tensor,
    square: Tensor,
    rate: Tensor,
    steps: int,
    betas: tuple[float, float],
    eps: float,
) -> Tensor:
    """One update of a parameter `[R, ...]`, the moments in place; rate `[R]`."""
    after = torch.empty_like(value)
    bias = [1 - beta**steps for beta in betas]
    kernels.adam(
        *(x.view(len(x), -1).numpy() for x in (value.contiguous(), grad, mean, square, after)),
        rate.double().numpy() / bias[0],
        bias[1] ** -0.5,
        *betas,
        eps,
    )
    return after


def _network(params: Params) -> tuple[Tensor, Tensor, Tensor]:
    return params["node"], params["head"], params["bias"]


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.contiguous().numpy() for tensor in tensors)


def _piece(matrices: Tensor) -> int:
    """Rows of one product with the last two axes, `sim.nodes.SMALL` multiplications at most."""
    return max(1, SMALL // (matrices.shape[-2] * matrices.shape[-1]))
