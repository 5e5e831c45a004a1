"""The whole catalogue at once: exact log-probabilities and entropies of one run.

Layout: children first, prompts last, `[c, P]`, level by level. Only nodes that branch cost
anything. Compiled code does it where numba can be used (`sim.decoding.compiled`); what stands here
does it elsewhere, and is what that is tested against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sim.kernel.available import why_not_compiled
from sim.policies.mlp import MLP
from sim.policies.protocol import Params, Policy
from sim.worlds.catalogue import Catalogue, TrieLevel

Children = Callable[[Tensor], tuple[Tensor, ...]]
NODES = 64
"""Nodes in front of which a policy is asked at once."""


@dataclass(frozen=True)
class Enumeration:
    """Logits of one run's children in front of P prompts, per level `[c, P]`, 0 for an only child;
    compiled: whether compiled code goes on with them."""

    catalogue: Catalogue
    logits: tuple[Tensor, ...]
    compiled: bool

    @property
    def root(self) -> Tensor:
        """`[1, P]` zeros: the log-probability of getting to the root."""
        return torch.zeros_like(self.logits[0][:1])


class Enumerator:
    """Enumerates for one run, params `[1, ...]`, in front of prompts that are given later; what
    these have in common is done once. compiled: None = where this machine can compile."""

    def __init__(
        self, policy: Policy, params: Params, catalogue: Catalogue, compiled: bool | None = None
    ) -> None:
        self._catalogue, self._dtype = catalogue, next(iter(params.values())).dtype
        self._compiled = why_not_compiled() is None if compiled is None else compiled
        self._children: Children = partial(_children, policy, params, catalogue)
        if self._compiled and isinstance(policy, MLP):
            from sim.decoding.compiled import ChildrenOfMLP

            self._children = ChildrenOfMLP(policy, params, catalogue)

    def __call__(self, context: Tensor) -> Enumeration:
        """Logits in front of the prompts whose features are context `[P, D]`."""
        with torch.no_grad():
            found = self._children(context.to(self._dtype))
        return Enumeration(self._catalogue, found, self._compiled)


def enumerate_logits(
    policy: Policy, params: Params, catalogue: Catalogue, context: Tensor
) -> Enumeration:
    """Logits of all children of one run; params `[1, ...]`, context `[P, D]`."""
    return Enumerator(policy, params, catalogue)(context)


def item_logp(
    enumeration: Enumeration, temperature: float = 1.0, beam: int | None = None
) -> Tensor:
    """Log-probability of every item, `[N, P]`, each code sampled at `temperature`.

    beam: give -inf to every item that beam search of this width loses on its way; the `beam` best
    of the rest are what it finds.
    """
    descend = _descend
    if enumeration.compiled:
        from sim.decoding.compiled import descend
    logp = enumeration.root
    for here, logits in zip(enumeration.catalogue.levels, enumeration.logits, strict=True):
        if beam is not None and logp.shape[0] > beam:
            kept = logp.topk(beam, dim=0)
            logp = torch.full_like(logp, -torch.inf).scatter_(0, kept.indices, kept.values)
        logp = descend(here, logits, temperature, logp)
    return logp


def tree_entropy(enumeration: Enumeration, temperature: float = 1.0) -> Tensor:
    """Entropy over items of each prompt, nats, `[P]` float64, codes sampled at `temperature`."""
    return entropy_and_slope(enumeration, temperature)[0]


def entropy_and_slope(enumeration: Enumeration, temperature: float) -> tuple[Tensor, Tensor]:
    """Entropy over items of each prompt, nats, and its derivative by log T; `[P]` each, float64.

    By the chain rule: H = sum of reach * h over nodes, with h the entropy of a node's choice and
    reach the probability of getting there. With s = logits / T, d h / d log T is the variance of s
    at the node, and d log p(code) / d log T = (mean of s) - s.
    """
    catalogue, found = enumeration.catalogue, enumeration.logits
    if enumeration.compiled:
        from sim.decoding import compiled

        return compiled.entropy_and_slope(catalogue, found, temperature)
    reach = torch.ones_like(enumeration.root).double()
    change = torch.zeros_like(reach)
    total, slope = torch.zeros_like(reach[0]), torch.zeros_like(reach[0])
    for here, logits in zip(catalogue.levels, found, strict=True):
        s = _shifted(here, logits.double()) / temperature
        weight = s.exp()
        mass, mean, square = (_sums(here, weight * power) for power in (1.0, s, s * s))
        mean, square = mean / mass, square / mass
        entropy, variance = mass.log() - mean, square - mean * mean
        total += (reach * entropy).sum(0)
        slope += (change * entropy + reach * variance).sum(0)
        share, turn = weight / mass[here.parent], mean[here.parent] - s
        reach = reach[here.parent] * share
        change = change[here.parent] * share + reach * turn
    return total, slope


def _children(
    policy: Policy, params: Params, catalogue: Catalogue, context: Tensor
) -> tuple[Tensor, ...]:
    """Of any policy, whose logits over all codes are asked for some nodes at a time."""
    encoded = policy.encode(params, context.unsqueeze(0))
    found = []
    for level, here in enumerate(catalogue.levels):
        out = context.new_zeros(len(here.parent), len(context))
        several = (here.first.diff() > 1).nonzero().squeeze(1)
        for start in range(0, len(several), NODES):
            nodes = several[start : start + NODES]
            index = nodes.expand(1, len(context), -1)
            logits = policy.node_logits(params, encoded, catalogue, level, index)[0]
            place, slot = here.mask[nodes].nonzero(as_tuple=True)
            code, child = here.code[nodes][place, slot], here.child[nodes][place, slot]
            out[child] = logits[:, place, code].T
        found.append(out)
    return tuple(found)


def _descend(here: TrieLevel, logits: Tensor, temperature: float, logp: Tensor) -> Tensor:
    """Log-probabilities of the children of a level `[c, P]` from those of its nodes `[n, P]`."""
    scaled = _shifted(here, logits) / temperature
    return (logp - _sums(here, scaled.exp()).log())[here.parent] + scaled


def _shifted(here: TrieLevel, logits: Tensor) -> Tensor:
    """Logits less the largest of their node; `[c, P]`."""
    top = logits.new_full((here.nodes, logits.shape[1]), -torch.inf)
    where = here.parent.unsqueeze(1).expand_as(logits)
    return logits - top.scatter_reduce(0, where, logits, "amax")[here.parent]


def _sums(here: TrieLevel, values: Tensor) -> Tensor:
    """Sums over the children of each node, `[c, P]` -> `[n, P]`."""
    return values.new_zeros(here.nodes, values.shape[1]).index_add(0, here.parent, values)
