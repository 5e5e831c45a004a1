"""Definitions of recommendation metrics on tensors; the simulator and the LM path share them.

Shapes: P prompts, N catalogue items, M targets per prompt, padded with -1. A hit is any of a
prompt's targets. Probabilities are unitless, entropies in nats, ranks count from 0.
With one target per prompt recall@k equals HR@k; both are kept because with several they differ.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNRANKED = 1 << 30
_BELOW_ONE = 1 - 1e-12


def hit_probability(logp: Tensor, targets: Tensor) -> Tensor:
    """Probability that one sample is a target: sum over T of p; logp `[P, N]` -> `[P]`."""
    at = logp.gather(-1, targets.clamp(min=0)).double().exp()
    return at.masked_fill(targets < 0, 0.0).sum(-1).clamp(max=1.0)


def pass_at_k(p: Tensor, k: int) -> Tensor:
    """Chance of a hit among k independent samples, 1 - (1 - p)^k; any shape."""
    return -torch.expm1(k * torch.log1p(-p.clamp(max=_BELOW_ONE)))


def regime_shares(p: Tensor, group: int) -> dict[str, Tensor]:
    """Probability of each regime of an i.i.d. group of width G with hit probability p `[P]`; `[P]`.

    At G = 1 a hit is saturated, so single_hit is 0. The four sum to one.
    """
    miss = torch.log1p(-p.clamp(max=_BELOW_ONE))
    none, every = torch.exp(group * miss), p**group
    single = group * p * torch.exp((group - 1) * miss) if group > 1 else torch.zeros_like(p)
    return {
        "all_zero": none,
        "single_hit": single,
        "multi_hit": (1 - none - single - every).clamp(min=0.0),
        "saturated": every,
    }


def target_ranks(logp: Tensor, targets: Tensor) -> Tensor:
    """Rank of each target in the list ordered by probability; `[P, N]`, `[P, M]` -> `[P, M]`.

    A target tied with t other items gets half of them above it (floor). Padding is UNRANKED.
    """
    ranks = []
    for column in targets.unbind(-1):
        at = logp.gather(-1, column.clamp(min=0).unsqueeze(-1))
        above = (logp > at).sum(-1)
        tied = (logp == at).sum(-1) - 1
        ranks.append((above + tied // 2).masked_fill(column < 0, UNRANKED))
    return torch.stack(ranks, dim=-1)


def list_ranks(items: Tensor, targets: Tensor) -> Tensor:
    """Rank of each target in a ranked list; items `[P, W]` (-1 = no item) -> `[P, M]`.

    A target that is not in the list, and padding, is UNRANKED.
    """
    same = (items.unsqueeze(-2) == targets.unsqueeze(-1)) & (targets >= 0).unsqueeze(-1)
    place = torch.arange(items.shape[-1], device=items.device).expand_as(same)
    return place.masked_fill(~same, UNRANKED).amin(-1)


def hit_rate_at_k(ranks: Tensor, k: int) -> Tensor:
    """1 where any target lies in the first k; ranks `[P, M]` -> `[P]` float64."""
    return (ranks < k).any(-1).double()


def recall_at_k(ranks: Tensor, k: int) -> Tensor:
    """Share of a prompt's targets that lie in the first k; `[P, M]` -> `[P]` float64.

    A prompt without targets gets 0.
    """
    count = (ranks < UNRANKED).sum(-1).clamp(min=1)
    return (ranks < k).sum(-1).double() / count


def ndcg_at_k(ranks: Tensor, k: int, count: Tensor | None = None) -> Tensor:
    """Binary-relevance NDCG@k, gain 1 / log2(rank + 2) over its best value; `[P, M]` -> `[P]`.

    count `[P]`: targets per prompt; without it, the ranked ones. Give it for ranks in a list.
    """
    gain = torch.where(ranks < k, 1 / torch.log2(ranks.double() + 2), 0.0).sum(-1)
    if count is None:
        count = (ranks < UNRANKED).sum(-1)
    ideal = (1 / torch.log2(torch.arange(k, dtype=torch.float64) + 2)).cumsum(0)
    return gain / ideal[(count.clamp(min=1, max=k) - 1)]


def entropy(logp: Tensor) -> Tensor:
    """Entropy of each row, nats; `[..., N]` -> `[...]`. Zero probabilities (-inf) add nothing."""
    return -(logp.exp() * logp.clamp(min=-1e4)).sum(-1)


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """Half the L1 distance of two distributions; `[..., N]` -> `[...]` in [0, 1]."""
    return 0.5 * (p - q).abs().sum(-1)


def coverage(lists: Tensor, items: int) -> float:
    """Share of the catalogue that occurs in at least one list; lists `[P, k]`, -1 = no item."""
    shown = torch.zeros(items, dtype=torch.bool)
    shown[lists[lists >= 0]] = True
    return float(shown.double().mean())
