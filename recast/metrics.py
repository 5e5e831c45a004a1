"""Definitions of recommendation metrics on tensors; the simulator and the LM path share them.

Shapes: P prompts, N catalogue items, M targets per prompt, padded with -1. A hit is any of a
prompt's targets. Probabilities are unitless, entropies in nats, ranks count from 0.
With one target per prompt recall@k equals HR@k; both are kept because with several they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

PASSES = (1, 2, 4, 8, 16, 32, 64)
"""The k of C(k), Pass@k at the temperature that is best for that k on tuning users."""

_HALVES = 8
_FARTHEST = 40
_SAME = 1e-6
UNRANKED = 1 << 30
_BELOW_ONE = 1 - 1e-12


def hit_probability(logp: Tensor, targets: Tensor) -> Tensor:
    """Probability that one sample is a target: sum over T of p; logp `[P, N]` -> `[P]`."""
    at = logp.gather(-1, targets.clamp(min=0)).double().exp()
    return at.masked_fill(targets < 0, 0.0).sum(-1).clamp(max=1.0)


def pass_at_k(p: Tensor, k: int | Tensor) -> Tensor:
    """Chance of a hit among k independent samples, 1 - (1 - p)^k; any shapes that broadcast."""
    return -torch.expm1(k * torch.log1p(-p.clamp(max=_BELOW_ONE)))


def best_temperatures(
    hit_at: Callable[[Sequence[float]], Tensor], ks: Sequence[int] = PASSES
) -> tuple[float, ...]:
    """For each k the temperature at which mean Pass@k of some prompts is highest.

    hit_at: hit probabilities `[T, P]`, float64, at T temperatures. Looked at are powers of the root
    of 2: 17 from 1/16 to 16, and further ones, at most 2^20 away from 1, as long as the best lies
    at an end. Of temperatures that are equally good (to a part in a million) the one nearest 1
    counts, and 1 where nothing is a number.
    """
    steps = list(range(-_HALVES, _HALVES + 1))
    hits = hit_at([_root(step) for step in steps])
    while True:
        values = pass_at_k(hits, torch.tensor(ks).view(-1, 1, 1)).mean(-1)
        best = _best(steps, values)
        lower = [s for s in range(steps[0] - _HALVES, steps[0]) if s >= -_FARTHEST]
        upper = [s for s in range(steps[-1] + 1, steps[-1] + 1 + _HALVES) if s <= _FARTHEST]
        lower = lower if min(best) == steps[0] else []
        upper = upper if max(best) == steps[-1] else []
        if not lower and not upper:
            return tuple(_root(step) for step in best)
        found = hit_at([_root(step) for step in (*lower, *upper)])
        hits = torch.cat([found[: len(lower)], hits, found[len(lower) :]])
        steps = [*lower, *steps, *upper]


def _root(step: int) -> float:
    return float(2.0 ** (step / 2))


def _best(steps: Sequence[int], values: Tensor) -> list[int]:
    """For each row of values `[K, T]` the step nearest 0 among those with the best value."""
    known = values.nan_to_num(-math.inf)
    top = known.amax(1, keepdim=True)
    good = (known >= top - _SAME * top.abs()).tolist()
    found = ((s for s, kept in zip(steps, row, strict=True) if kept) for row in good)
    return [min(row, key=lambda s: (abs(s), s)) for row in found]


def pass_curve(hits: Tensor) -> dict[str, Tensor]:
    """`c_at_k` of each prompt for every k of `PASSES`, and `area`, their mean over k; each `[P]`.

    hits `[len(PASSES), P]`: hit probabilities, row i at the temperature of `PASSES[i]`."""
    values = pass_at_k(hits, torch.tensor(PASSES).view(-1, 1))
    named = zip((f"c_at_{k}" for k in PASSES), values, strict=True)
    return {**dict(named), "area": values.mean(0)}


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
    ranks, beats = [], torch.empty_like(logp)
    for column in targets.unbind(-1):
        at = logp.gather(-1, column.clamp(min=0).unsqueeze(-1))
        # Ones as numbers in logp's own layout: their sum is five times faster than that of bools.
        above = torch.gt(logp, at, out=beats).sum(-1).long()
        tied = torch.eq(logp, at, out=beats).sum(-1).long() - 1
        ranks.append((above + tied // 2).masked_fill(column < 0, UNRANKED))
    return torch.stack(ranks, dim=-1)


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
    return 0.5 * torch.sub(p, q).abs_().sum(-1)


def coverage(lists: Tensor, items: int) -> float:
    """Share of the catalogue that occurs in at least one list; lists `[P, k]`, -1 = no item."""
    shown = torch.zeros(items, dtype=torch.bool)
    shown[lists[lists >= 0]] = True
    return float(shown.double().mean())
