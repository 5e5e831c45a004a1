"""Memory for one run's step, and what the kernel reads of a policy and a catalogue."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from sim.kernel import nets
from sim.kernel.numbers import BLOCK
from sim.kernel.shapes import (
    Array,
    Demand,
    Flat,
    Net,
    NodeArrays,
    PathArrays,
    Scratch,
    TrieArrays,
    Walkers,
)
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.policies.protocol import Params, Policy
from sim.worlds.catalogue import Catalogue

PIECE = 128
"""Rows off the paths that are looked at together: what they need stays in the cache."""


class Buffers(NamedTuple):
    """What a step writes to; see `sim.kernel.shapes`."""

    on_path: NodeArrays
    paths: PathArrays
    demand: Demand
    off_path: NodeArrays
    frozen: NodeArrays | None
    scratch: Scratch
    walkers: Walkers


def serves(policy: Policy) -> bool:
    """Whether the kernel knows this policy."""
    return isinstance(policy, MLP | LogLinear | Tabular)


def flat_of(params: Params, run: int) -> Array:
    """One run's parameters one after the other, `[n]`, in the order of a `Net`'s arrays."""
    return np.concatenate([value[run].reshape(-1).numpy() for value in params.values()])


def flat_run(policy: Policy, params: Params, run: int) -> Flat:
    """A copy of one run's parameters, with a gradient and moments of 0."""
    value = flat_of(params, run)
    grad, mean, square = (np.zeros_like(value) for _ in range(3))
    flat = Flat(value, grad, mean, square)
    if isinstance(policy, Tabular):
        return flat
    names, per_node = list(params), "node" if isinstance(policy, MLP) else "bias"
    before = sum(params[name][run].numel() for name in names[: names.index(per_node)])
    nodes, width = params[per_node].shape[1:]
    return flat._replace(first=before, width=width, reached=np.zeros(nodes, np.uint8))


def net_of(policy: Policy, flat: Array, like: Params, reached: Array) -> Net:
    """Flat parameters `[n]` as the kernel reads them, by the names and shapes `[R, ..]` of like."""
    own = dict(zip(like, _cut(flat, like), strict=True))
    none = (np.empty((0, 0, 0), flat.dtype), np.empty((0, 0), flat.dtype))
    if isinstance(policy, MLP):
        return Net(nets.MLP, own["input"], own["node"], own["head"], own["bias"], reached)
    if isinstance(policy, LogLinear):
        weight = own["weight"]
        return Net(nets.LOG_LINEAR, weight.reshape(len(weight), -1), own["bias"], *none, reached)
    table = own["table"]
    return Net(nets.TABULAR, table.reshape(len(table), -1), none[1], *none, reached)


def _cut(flat: Array, like: Params) -> list[Array]:
    found, start = [], 0
    for value in like.values():
        size = value[0].numel()
        found.append(flat[start : start + size].reshape(value.shape[1:]))
        start += size
    return found


def params_of(flats: list[Array], like: Params) -> Params:
    """Copies of flat parameters as `[R, ...]`, with the names and shapes of like."""
    parts = zip(*(_cut(flat, like) for flat in flats), strict=True)
    stacked = (torch.from_numpy(np.stack(part)) for part in parts)
    return dict(zip(like, stacked, strict=True))


def trie_of(catalogue: Catalogue) -> TrieArrays:
    """The catalogue as the kernel reads it."""
    parts = (catalogue.dead, catalogue.follow, catalogue.places, catalogue.codes)
    return TrieArrays(*(part.contiguous().numpy() for part in parts))


def buffers_of(net: Net, catalogue: Catalogue, batch: int, group: int, *, kl: bool) -> Buffers:
    """Memory for steps of B prompts and G rollouts."""
    depth, codes, dtype = catalogue.depth, catalogue.n_codes, net.input.dtype
    features, wide = net.input.shape
    width = net.node.shape[1] if net.kind == nets.MLP else 1
    encoded = 1 if net.kind == nets.TABULAR else wide

    def real(*shape: int) -> Array:
        return np.empty(shape, dtype)

    def whole(*shape: int) -> Array:
        return np.empty(shape, np.int64)

    def rows(n: int) -> NodeArrays:
        kept = (real(n, codes), real(n, codes), real(n, codes), real(n, codes), real(n))
        return NodeArrays(whole(n), whole(n), real(n, width), real(n, width), *kept)

    cells, room = max(codes, 2 * depth + 2), batch * group + 1
    weights = [np.zeros((batch, depth)) for _ in range(3)]
    return Buffers(
        rows(depth * batch),
        PathArrays(
            whole(depth * batch), real(batch, depth), np.empty((batch, depth + 1)), weights[0]
        ),
        Demand(
            whole(batch), whole(batch), weights[1], whole(batch, depth), weights[2],
            np.zeros(batch), np.zeros(batch),
        ),
        rows(PIECE),
        rows(max(batch, PIECE)) if kl else None,
        Scratch(
            real(batch, features), whole(batch), real(batch, encoded), real(batch, encoded),
            real(batch, encoded), real(width, codes), real(features, encoded), np.empty(cells),
            np.empty((1, 2 * depth + 2)), whole(cells), real(codes), np.empty(BLOCK),
            np.zeros(2, np.uint64),
        ),
        Walkers(whole(2, room), whole(2, room), whole(2, room), real(2, room)),
    )  # fmt: skip
