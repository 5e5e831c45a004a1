"""The whole catalogue at once: exact log-probabilities and entropies of one run.

Layout: children first, prompts last, `[..., P]`, so that every gather moves whole rows and every
elementwise pass is contiguous. Only nodes that branch cost anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sim.catalogue import Bucket, Catalogue

if TYPE_CHECKING:
    from sim.policy import Params, Policy


def affine_tanh(x: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """weight @ tanh(x + shift) + bias with one exponential per input instead of one per sum.

    tanh(x + s) = 1 - 2 / (1 + e^2x e^2s), so the sum over hidden units needs only reciprocals.
    x `[R, 1, H, P]`, shift `[R, m, H, 1]`, weight `[R, m, w, H]`, bias `[R, m, w, 1]` ->
    `[R, m, w, P]`. Falls back to tanh where the product of exponentials could overflow.
    """
    safe = 20.0 if x.dtype == torch.float32 else 170.0
    if max(x.abs().max().item(), shift.abs().max().item()) < safe:
        half = torch.mul((2 * x).exp(), (2 * shift).exp()).add_(1).reciprocal_()
        return torch.matmul(weight, half).mul_(-2).add_(bias + weight.sum(-1, keepdim=True))
    return torch.matmul(weight, torch.tanh(x + shift)) + bias


@dataclass(frozen=True)
class Enumeration:
    """Child logits of one run on P prompts: per level, per bucket, `[m, w, P]`, dead = -inf. A
    catalogue of one item has no bucket."""

    catalogue: Catalogue
    logits: tuple[tuple[Tensor, ...], ...]
    prompts: int
    dtype: torch.dtype


def enumerate_logits(
    policy: Policy, params: Params, catalogue: Catalogue, context: Tensor
) -> Enumeration:
    """Logits of every branching node of one run; params `[1, ...]`, context `[P, D]`."""
    dtype = next(iter(params.values())).dtype
    with torch.no_grad():
        encoded = policy.encode(params, context.to(dtype).unsqueeze(0))
        found = tuple(
            tuple(
                _mask(policy.child_logits(params, encoded, catalogue, level, bucket)[0], bucket)
                for bucket in here.buckets
            )
            for level, here in enumerate(catalogue.levels)
        )
    return Enumeration(catalogue, found, len(context), dtype)


def item_logp(
    enumeration: Enumeration, temperature: float = 1.0, beam: int | None = None
) -> Tensor:
    """Log-probability of every item, `[N, P]`, each code sampled at `temperature`.

    beam: give -inf to every item that beam search of this width loses on its way; the `beam` best
    of the rest are what it finds.
    """
    logp = _roots(enumeration)
    for here, blocks in zip(enumeration.catalogue.levels, enumeration.logits, strict=True):
        if beam is not None and logp.shape[0] > beam:
            kept = logp.topk(beam, dim=0)
            logp = torch.full_like(logp, -torch.inf).scatter_(0, kept.indices, kept.values)
        logp = logp.index_select(0, here.parent)
        for bucket, block in zip(here.buckets, blocks, strict=True):
            scaled = block if temperature == 1.0 else block / temperature
            step = torch.log_softmax(scaled, dim=1).flatten(0, 1)
            logp[bucket.live] += step.index_select(0, bucket.place)
    return logp


def tree_entropy(enumeration: Enumeration, temperature: float = 1.0) -> Tensor:
    """Entropy over items of each prompt, nats, `[P]`, by the chain rule: the entropy of each
    node's choice, weighted with the probability of getting there."""
    reach = torch.ones_like(_roots(enumeration))
    total = torch.zeros_like(reach[0])
    deepest = len(enumeration.logits) - 1
    for level, here in enumerate(enumeration.catalogue.levels):
        below = reach.index_select(0, here.parent) if level < deepest else reach
        for bucket, block in zip(here.buckets, enumeration.logits[level], strict=True):
            scaled = (block - block.amax(1, keepdim=True)) / temperature
            weight = scaled.exp()
            mass = weight.sum(1)
            chosen = (weight * scaled.clamp_(min=-1e4)).sum(1)
            total += (reach[bucket.node] * (mass.log() - chosen / mass)).sum(0)
            if level < deepest:
                share = (weight / mass.unsqueeze(1)).flatten(0, 1)
                below[bucket.live] *= share.index_select(0, bucket.place)
        reach = below
    return total


def _mask(logits: Tensor, bucket: Bucket) -> Tensor:
    if not bool(bucket.dead.any()):
        return logits
    return logits.masked_fill(bucket.dead.unsqueeze(-1), -torch.inf)


def _roots(enumeration: Enumeration) -> Tensor:
    return torch.zeros(1, enumeration.prompts, dtype=enumeration.dtype)
