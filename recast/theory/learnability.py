"""Learnability: how often a group can teach, and how much each strategy learns from one.

For binary rewards. Each of the G rollouts of a prompt hits with probability p; a prompt with
several targets has p = the sum of their probabilities. Over prompts p is fixed or Beta-distributed
with a mean and a coefficient of variation (cv = standard deviation / mean, 0 = every prompt
alike). Probabilities are unitless, in float64.
Source: regimes of arXiv 2604.22169, section 3; the Beta-binomial distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recast.regimes import hit_shares, require_group
from recast.strategies import as_strategy
from recast.strategy import Strategy
from recast.theory.by_hits import by_hits, sampled_width


def hit_probability(targets: Tensor) -> Tensor:
    """p of prompts with several targets; `[..., T]` probabilities of each -> `[...]`.

    Raises ValueError when one is negative or their sum exceeds 1.
    """
    total = targets.to(torch.float64).sum(-1)
    if not bool(((targets >= 0).all(-1) & (total <= 1 + 1e-12)).all()):
        raise ValueError("targets: expected probabilities >= 0 with a sum of at most 1")
    return total.clamp(max=1.0)


def binomial_pmf(p: Tensor, group: int) -> Tensor:
    """P(K = k) for k = 0..group hits at hit probability p; `[...]` -> float64 `[..., group + 1]`.

    Raises ValueError for p outside [0, 1] or group < 1.
    """
    require_group(group)
    p = _probabilities(p).unsqueeze(-1)
    k = torch.arange(group + 1, dtype=torch.float64)
    logs = _log_choose(group) + torch.xlogy(k, p) + torch.xlogy(group - k, 1 - p)
    return logs.exp()


def hit_count_pmf(mean: float, cv: float, group: int) -> Tensor:
    """P(K = k) for k = 0..group hits, Beta-binomial; float64 `[group + 1]`.

    Raises ValueError as `regimes.hit_shares` does, which computes it.
    """
    return torch.tensor(hit_shares(mean, cv, group), dtype=torch.float64)


@dataclass(frozen=True)
class Expected:
    """Per group: count, rollouts with a non-zero advantage plus a supervised target; square, the
    sum of squared advantages; learnable, the share of groups with any signal. nan where a strategy
    that looks at the batch has none per group."""

    count: float
    square: float
    learnable: float


def expected_signal(
    strategy: str | Strategy, pmf: Tensor | Sequence[float], group: int
) -> Expected:
    """What a strategy learns from, averaged over the hits K ~ pmf.

    From `build_signal` on groups with k = 0..W hits, the target known. pmf `[W + 1]`, as from
    `hit_count_pmf`, where W = `sampled_width(strategy, group)` is the group but for a strategy that
    oversamples. A strategy that looks at the batch has no value per group: nan.
    Raises ValueError for an unknown strategy, one that hits alone do not determine, or a pmf of
    another length.
    """
    require_group(group)
    chosen = as_strategy(strategy)
    weights = torch.as_tensor(pmf, dtype=torch.float64)
    expected = sampled_width(chosen, group) + 1
    if weights.shape != (expected,):
        raise ValueError(f"pmf: expected [{expected}], got {list(weights.shape)}")
    table = by_hits(chosen, group)
    if table.batch > 1:
        return Expected(math.nan, math.nan, math.nan)
    alive = (table.count > 0).to(torch.float64)
    values = (table.count, table.square, alive)
    return Expected(*(float(table.mean(value)[0] @ weights) for value in values))


def _probabilities(p: Tensor) -> Tensor:
    p = p.to(torch.float64)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError("p: expected hit probabilities in [0, 1]")
    return p


def _log_choose(group: int) -> Tensor:
    k = torch.arange(group + 1, dtype=torch.float64)
    return math.lgamma(group + 1) - torch.lgamma(k + 1) - torch.lgamma(group - k + 1)
