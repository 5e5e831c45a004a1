"""The fast path's two heavy parts as a compiled kernel, for MLP policies, as `walk` in numba.

An option: it needs the extra `fast`. `score_path` and `descend` take and return what those of
`walk` do, and a step draws from the same laws, with other numbers: which kernel trained a run
is part of its name.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sim.decoding.shared_tree import Softmax
from sim.policies.nodes import SMALL, NodePolicy, Params, Rows
from sim.policies.protocol import MLP
from sim.shortcuts import kernels
from sim.shortcuts.walk import Demand, Generators, Path, Walkers, layout, onward
from sim.worlds.catalogue import Catalogue


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
    """As `sim.shortcuts.walk.score_path`."""
    del policy
    (runs, prompts), depth, codes = target.shape, catalogue.depth, catalogue.n_codes
    prompt, segment, first, _ = layout(runs, prompts, depth, codes)
    place, code = (torch.empty_like(prompt) for _ in range(2))
    saved = encoded.new_empty(len(prompt), encoded.shape[1])
    shifted, weight, off = (encoded.new_empty(len(prompt), codes) for _ in range(3))
    total = encoded.new_empty(len(prompt))
    logp = encoded.new_empty(runs * prompts, depth)
    reach, leave = np.ones((len(logp), depth + 1)), np.empty((len(logp), depth))
    kernels.score(
        encoded=_array(encoded),
        node=_array(params["node"]),
        head=_array(params["head"]),
        bias=_array(params["bias"]),
        dead=_array(catalogue.dead),
        places=_array(catalogue.places),
        codes=_array(catalogue.codes),
        target=_array(target),
        temperature=temperature,
        piece=_piece(params["head"]),
        place=place.numpy(),
        code=code.numpy(),
        saved=saved.numpy(),
        shifted=shifted.numpy(),
        weight=weight.numpy(),
        total=total.numpy(),
        off=off.numpy(),
        logp=logp.numpy(),
        reach=reach,
        leave=leave,
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
    *,
    name_items: bool = False,
) -> tuple[Params, Walkers | None]:
    """As `sim.shortcuts.walk.descend`, for a demand without a KL term."""
    del policy
    count = np.ascontiguousarray(demand.count)
    miss = _array(demand.miss)
    through = onward(demand.hit, count * miss).astype(miss.dtype)
    # A miss that leaves at one level draws a code there and at every level below.
    draws = (count * np.arange(catalogue.depth, 0, -1)).sum(1)
    parts = pairwise(path.bounds)
    uniform = [rng.random(draws[a:b].sum()) for rng, (a, b) in zip(rngs, parts, strict=True)]
    ends = np.cumsum([0, *map(len, uniform)])
    grads = {name: value.new_zeros(value.shape) for name, value in params.items()}
    found = kernels.walk(
        context=_array(context),
        encoded=_array(encoded),
        node=_array(params["node"]),
        head=_array(params["head"]),
        bias=_array(params["bias"]),
        dead=_array(catalogue.dead),
        follow=_array(catalogue.follow),
        path_place=_array(path.rows.place),
        path_code=_array(path.code),
        path_hidden=_array(path.saved),
        path_weight=_array(path.softmax.weight),
        path_total=_array(path.softmax.total),
        off=_array(path.off),
        through=through,
        count=count,
        miss=miss,
        uniform=np.concatenate(uniform),
        ends=ends,
        temperature=temperature,
        piece=_piece(params["head"]),
        input_piece=_piece(params["input"]),
        g_input=grads["input"].numpy(),
        g_node=grads["node"].numpy(),
        g_head=grads["head"].numpy(),
        g_bias=grads["bias"].numpy(),
        name_items=name_items,
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
    after = value.new_empty(value.shape)
    bias = [1 - beta**steps for beta in betas]
    kernels.adam(
        value=_array(value.flatten(1)),
        grad=_array(grad.flatten(1)),
        mean=mean.view(len(value), -1).numpy(),
        square=square.view(len(value), -1).numpy(),
        after=after.view(len(value), -1).numpy(),
        rate=rate.double().numpy() / bias[0],
        scale=bias[1] ** -0.5,
        beta1=betas[0],
        beta2=betas[1],
        eps=eps,
    )
    return after


def _array(tensor: Tensor) -> np.ndarray:
    """What a kernel reads: one specialisation serves all, since all are contiguous."""
    return tensor.contiguous().numpy()


def _piece(matrices: Tensor) -> int:
    """Rows of one product with the last two axes, `SMALL` multiplications at most."""
    return max(1, SMALL // (matrices.shape[-2] * matrices.shape[-1]))
