"""Learnability: how often a group can teach, and how many rollouts each strategy learns from.

Closed forms for binary rewards. Each of the G rollouts of a prompt hits with probability p; over
prompts, p is fixed or Beta-distributed with a mean and a coefficient of variation
(cv = standard deviation / mean, 0 = every prompt alike). Probabilities are unitless, in float64.
Source: regimes of arXiv 2604.22169, section 3; the Beta-binomial distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recast.groups import REGIMES, RolloutGroups
from recast.strategies import parse_strategy
from recast.strategy import Strategy, build_signal


def regime_probabilities(p: Tensor, group: int) -> dict[str, Tensor]:
    """Share of groups in each of `REGIMES` at hit probability p; each float64, shape of p `[...]`.

    At group = 1 a hit is saturated. Raises ValueError for p outside [0, 1] or group < 1.
    """
    _require_group(group)
    p = p.to(torch.float64)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError("p: expected hit probabilities in [0, 1]")
    all_zero, saturated = (1 - p) ** group, p**group
    single = group * p * (1 - p) ** (group - 1) if group > 1 else torch.zeros_like(p)
    multi = (1 - all_zero - single - saturated).clamp(min=0.0)
    return dict(zip(REGIMES, (all_zero, single, multi, saturated), strict=True))


def hit_count_pmf(mean: float, cv: float, group: int) -> Tensor:
    """P(K = k) for k = 0..group hits, Beta-binomial; float64 `[group + 1]`.

    Written with r = 1 / (a + b), so that cv = 0 (r = 0) is the binomial and a small cv loses no
    digits. Raises ValueError for a mean outside [0, 1], a cv that no Beta reaches, or group < 1.
    """
    _require_group(group)
    if not 0 <= mean <= 1:
        raise ValueError(f"mean: expected a hit probability in [0, 1], got {mean}")
    room = (1 - mean) - mean * cv**2
    if not cv >= 0 or (cv > 0 and room <= 0):
        bound = math.sqrt((1 - mean) / mean) if mean else math.inf
        raise ValueError(f"cv: at mean {mean:g} expected 0 <= cv < {bound:.3g}, got {cv:g}")
    r = mean * cv**2 / room if cv else 0.0
    step = r * torch.arange(group, dtype=torch.float64)
    hits, misses, either = (_log_rising(start + step) for start in (mean, 1 - mean, 1.0))
    k = torch.arange(group + 1, dtype=torch.float64)
    choose = math.lgamma(group + 1) - torch.lgamma(k + 1) - torch.lgamma(group - k + 1)
    return (choose + hits + misses.flip(0) - either[-1]).exp()


def beta_regimes(mean: float, cv: float, group: int) -> dict[str, float]:
    """Share of groups in each of `REGIMES` when p ~ Beta(mean, cv) over prompts.

    Raises ValueError as `hit_count_pmf` does.
    """
    pmf = hit_count_pmf(mean, cv, group)
    shares = (pmf[0], pmf[1:2].sum() if group > 1 else pmf[:0].sum(), pmf[2:-1].sum(), pmf[-1])
    return dict(zip(REGIMES, map(float, shares), strict=True))


def expected_signal_count(
    strategy: str | Strategy, pmf: Tensor | Sequence[float], group: int
) -> float:
    """Expected gradient-signal count per group: `Signal.count` averaged over the hits K ~ pmf.

    Measured by running `build_signal` on one group for each k = 0..group (its k hits first, target
    known). pmf `[group + 1]`, as from `hit_count_pmf`. nan for a strategy whose credit looks at the
    other groups of the batch (`reinforce`): it has no count per group.
    Raises ValueError for an unknown strategy or a pmf of another length.
    """
    _require_group(group)
    chosen = parse_strategy(strategy) if isinstance(strategy, str) else strategy
    weights = torch.as_tensor(pmf, dtype=torch.float64)
    if weights.shape != (group + 1,):
        raise ValueError(f"pmf: expected [{group + 1}], got {list(weights.shape)}")
    slot = torch.arange(group, dtype=torch.float64)
    reward = (slot < torch.arange(group + 1).unsqueeze(-1)).to(torch.float64)
    together = _counts(chosen, reward.unsqueeze(0)).squeeze(0)
    alone = _counts(chosen, reward.unsqueeze(1)).squeeze(1)
    if not torch.equal(alone, together):
        return math.nan
    return float(weights @ alone.to(torch.float64))


def _counts(strategy: Strategy, reward: Tensor) -> Tensor:
    width = reward.shape[-1]
    key = ((torch.arange(width, dtype=reward.dtype) + 0.5) / width).expand_as(reward)
    place = torch.arange(width).expand(reward.shape)
    groups = RolloutGroups.of(
        reward,
        score=reward,
        tie_key=key,
        entropy=torch.tensor([1.0, 0.5], dtype=reward.dtype).expand(*reward.shape, 2),
        beam_rank=place,
        matched=reward.to(torch.int64),
        item=place,
    )
    return build_signal(strategy, groups).count


def _log_rising(factors: Tensor) -> Tensor:
    """log of the product of the first k factors, k = 0..n; `[n + 1]`."""
    return torch.cat([factors.new_zeros(1), factors.log().cumsum(0)])


def _require_group(group: int) -> None:
    if group < 1:
        raise ValueError(f"group: expected at least 1 rollout, got {group}")
