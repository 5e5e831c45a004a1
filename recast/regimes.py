"""Shares of group regimes from a hit rate alone: no tensors, so that it loads at once.

Each of the G rollouts of a prompt hits with probability p, and p is Beta-distributed over prompts
with a mean and a coefficient of variation (cv = standard deviation / mean, 0 = every prompt alike).
Source: regimes of arXiv 2604.22169, section 3; the Beta-binomial distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

REGIMES = ("all_zero", "single_hit", "multi_hit", "saturated")


def hit_shares(mean: float, cv: float, group: int) -> list[float]:
    """P(K = k) for k = 0..group hits, Beta-binomial; `[group + 1]`, sums to 1.

    Written with r = 1 / (a + b), so that cv = 0 (r = 0) is the binomial and a small cv loses no
    digits. Raises ValueError for a mean outside [0, 1], a cv that no Beta reaches, or group < 1.
    """
    require_group(group)
    if not 0 <= mean <= 1:
        raise ValueError(f"mean: expected a hit probability in [0, 1], got {mean}")
    room = (1 - mean) - mean * cv**2
    if not cv >= 0 or (cv > 0 and room <= 0):
        bound = math.sqrt((1 - mean) / mean) if mean else math.inf
        raise ValueError(f"cv: at mean {mean:g} expected 0 <= cv < {bound:.3g}, got {cv:g}")
    r = mean * cv**2 / room if cv else 0.0
    hits, misses, either = (_log_rising(start, r, group) for start in (mean, 1 - mean, 1.0))
    choose = [
        math.lgamma(group + 1) - math.lgamma(k + 1) - math.lgamma(group - k + 1)
        for k in range(group + 1)
    ]
    return [
        math.exp(choose[k] + hits[k] + misses[group - k] - either[group]) for k in range(group + 1)
    ]


def shares_of(pmf: Sequence[float]) -> dict[str, float]:
    """Share of groups in each of `REGIMES` under a distribution of hits `[G + 1]`.

    At G = 1 a hit is saturated.
    """
    single = pmf[1] if len(pmf) > 2 else 0.0
    return dict(zip(REGIMES, (pmf[0], single, math.fsum(pmf[2:-1]), pmf[-1]), strict=True))


def beta_regimes(mean: float, cv: float, group: int) -> dict[str, float]:
    """Share of groups in each of `REGIMES` when p ~ Beta(mean, cv) over prompts.

    Raises ValueError as `hit_shares` does.
    """
    return shares_of(hit_shares(mean, cv, group))


def require_group(group: int) -> None:
    """Raises ValueError for group < 1."""
    if group < 1:
        raise ValueError(f"group: expected at least 1 rollout, got {group}")


def _log_rising(start: float, step: float, count: int) -> list[float]:
    """log of the product of the first k of start, start + step, ..., k = 0..count."""
    factors = (start + step * i for i in range(count))
    logs = (math.log(factor) if factor > 0 else -math.inf for factor in factors)
    return list(accumulate(logs, initial=0.0))
