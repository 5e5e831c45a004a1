"""The whole catalogue at once: exact log-probabilities and entropies of one run.

Layout: children first, prompts last, `[..., P]`, so that every gather moves whole rows and every
elementwise pass is contiguous. Only nodes that branch cost anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sim.policies.protocol import Params, Policy
from sim.worlds.catalogue import Bucket, Catalogue


@dataclass(frozen=True)
class Enumeration:
    """Child logits of one run on P prompts: per level, per bucket, `[m, w, P]`, dead = -inf; root
    `[1, P]` zeros, the log-probability of getting to the root."""

    catalogue: Catalogue
    root: Tensor
    logits: tuple[tuple[Tensor, ...], ...]

    def double(self) -> Enumeration:
        """The same in float64."""
        logits = tuple(tuple(block.double() for block in level) for level in self.logits)
        return Enumeration(self.catalogue, self.root.double(), logits)

    @cached_property
    def shifted(self) -> tuple[tuple[Tensor, ...], ...]:
        """Logits less the largest of their node."""
        return tuple(
            tuple(block - block.amax(1, keepdim=True) for block in level) for level in self.logits
        )

    @cached_property
    def steps(self) -> tuple[Tensor, ...]:
        """Log-probability of each child given its parent at T = 1; per level `[c, P]`."""
        return _steps(self, 1.0)


class Enumerator:
    """Enumerates for one run, params `[1, ...]`, in front of prompts that are given later; what
    these have in common is done once."""

    def __init__(self, policy: Policy, params: Params, catalogue: Catalogue) -> None:
        self._policy, self._params, self._catalogue = policy, params, catalogue
        self._dtype = next(iter(params.values())).dtype
        with torch.no_grad():
            self._levels = [
                [
                    (policy.child_logits(params, catalogue, level, bucket), self._barrier(bucket))
                    for bucket in here.buckets
                ]
                for level, here in enumerate(catalogue.levels)
            ]

    def _barrier(self, bucket: Bucket) -> Tensor:
        return bucket.barrier.to(self._dtype)

    def __call__(self, context: Tensor) -> Enumeration:
        """Logits of every branching node; context `[P, D]`."""
        with torch.no_grad():
            encoded = self._policy.encode(self._params, context.to(self._dtype).unsqueeze(0))
            found = tuple(
                tuple(logits(encoded)[0].add_(barrier) for logits, barrier in level)
                for level in self._levels
            )
        root = torch.zeros(1, len(context), dtype=self._dtype)
        return Enumeration(self._catalogue, root, found)


def enumerate_logits(
    policy: Policy, params: Params, catalogue: Catalogue, context: Tensor
) -> Enumeration:
    """Logits of every branching node of one run; params `[1, ...]`, context `[P, D]`."""
    return Enumerator(policy, params, catalogue)(context)


def item_logp(
    enumeration: Enumeration, temperature: float = 1.0, beam: int | None = None
) -> Tensor:
    """Log-probability of every item, `[N, P]`, each code sampled at `temperature`.

    beam: give -inf to every item that beam search of this width loses on its way; the `beam` best
    of the rest are what it finds.
    """
    logp = enumeration.root
    steps = enumeration.steps if temperature == 1.0 else _steps(enumeration, temperature)
    for here, step in zip(enumeration.catalogue.levels, steps, strict=True):
        if beam is not None and logp.shape[0] > beam:
            kept = logp.topk(beam, dim=0)
            logp = torch.full_like(logp, -torch.inf).scatter_(0, kept.indices, kept.values)
        logp = logp.index_select(0, here.parent).add_(step)
    return logp


def tree_entropy(enumeration: Enumeration, temperature: float = 1.0) -> Tensor:
    """Entropy over items of each prompt, nats, `[P]`, each code sampled at `temperature`."""
    return entropy_and_slope(enumeration, temperature)[0]


def entropy_and_slope(enumeration: Enumeration, temperature: float) -> tuple[Tensor, Tensor]:
    """Entropy over items of each prompt, nats, and its derivative by log T; `[P]` each.

    By the chain rule: H = sum of reach * h over nodes, with h the entropy of a node's choice and
    reach the probability of getting there. With s = logits / T, d h / d log T is the variance of s
    at the node, and d log p(code) / d log T = (mean of s) - s.
    """
    reach = torch.ones_like(enumeration.root)
    change = torch.zeros_like(reach)
    total, slope = torch.zeros_like(reach[0]), torch.zeros_like(reach[0])
    deepest = len(enumeration.logits) - 1
    for level, here in enumerate(enumeration.catalogue.levels):
        parts = []
        shares, turns = [], []
        for block in enumeration.shifted[level]:
            scaled = block / temperature
            weight = scaled.exp()
            mass = weight.sum(1)
            scaled.clamp_(min=-1e4)
            first = weight * scaled
            parts.append((mass, first.sum(1), torch.mul(first, scaled).sum(1)))
            if level < deepest:
                shares.append(weight.div_(mass.unsqueeze(1)).flatten(0, 1))
                mean = parts[-1][1] / mass
                turns.append(scaled.sub_(mean.unsqueeze(1)).neg_().flatten(0, 1))
        if parts:
            mass, mean, square = (torch.cat(part) for part in zip(*parts, strict=True))
            mean, square = mean.div_(mass), square.div_(mass)
            entropy, variance = mass.log_().sub_(mean), square.addcmul_(mean, mean, value=-1)
            here_on, moving = (x.index_select(0, here.branching) for x in (reach, change))
            total += torch.mul(here_on, entropy).sum(0)
            slope += moving.mul_(entropy).addcmul_(here_on, variance).sum(0)
        if level < deepest:
            # An only child takes its parent's reach, and the change of it, as they are.
            only = reach.new_ones(1, reach.shape[1])
            share = torch.cat([*shares, only]).index_select(0, here.slot)
            turn = torch.cat([*turns, only.zero_()]).index_select(0, here.slot)
            reach = reach.index_select(0, here.parent).mul_(share)
            change = change.index_select(0, here.parent).mul_(share).addcmul_(reach, turn)
    return total, slope


def _steps(enumeration: Enumeration, temperature: float) -> tuple[Tensor, ...]:
    found = []
    for here, blocks in zip(enumeration.catalogue.levels, enumeration.shifted, strict=True):
        scaled = blocks if temperature == 1.0 else [block / temperature for block in blocks]
        parts = [
            (block - block.exp().sum(1, keepdim=True).log_()).flatten(0, 1) for block in scaled
        ]
        # A node with one child leads there with probability 1, the last row.
        found.append(torch.cat([*parts, enumeration.root]).index_select(0, here.slot))
    return tuple(found)
