"""Losses of a single row, and the closed form of GRPO's weight."""

from __future__ import annotations

import math


def surrogate(logp: float, old: float, advantage: float, low: float, high: float) -> float:
    ratio = math.exp(logp - old)
    clipped = min(max(ratio, 1 - low), 1 + high)
    return -min(ratio * advantage, clipped * advantage)


def kl(logp: float, ref: float, estimator: str) -> float:
    """Estimate of KL(policy || reference) from one sample of the policy."""
    if estimator == "k1":
        return logp - ref
    if estimator == "k2":
        return (logp - ref) ** 2 / 2
    return math.exp(ref - logp) - 1 + (logp - ref)


def policy_loss(logp, old, ref, advantage, rows, divisor, low, high, weight, estimator) -> float:  # type: ignore[no-untyped-def]
    """One run: logp, old, ref `[B][U][L]`, advantage and rows `[B][U]`."""
    total = 0.0
    for b, row in enumerate(rows):
        for u, reaches in enumerate(row):
            if not reaches:
                continue
            for new, before, base in zip(logp[b][u], old[b][u], ref[b][u], strict=True):
                total += surrogate(new, before, advantage[b][u], low, high)
                total += weight * kl(new, base, estimator)
    return total / divisor


def binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def grpo_weight(p: float, group: int) -> float:
    """w(p): the mean GRPO step over all groups is w(p) grad log p, per rollout, at eps = 0."""
    mean_root = sum(binomial(k, group, p) * math.sqrt(k * (group - k)) for k in range(group + 1))
    return mean_root * math.sqrt((group - 1) / group) / (group * (1 - p))
