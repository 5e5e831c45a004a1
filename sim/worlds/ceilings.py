"""What no policy can exceed: bounds that follow from noisy targets.

A prompt's targets T are the distinct items among M independent draws from its true preferences P.
Item i is a target with probability q_i = 1 - (1 - P_i)^M, so that sampled Pass@1, sum_i pi_i q_i,
and the hit of any one item are at most max q. A list of k has the best hit rate 1 - (1 - mass)^M
and the best recall, sum of E[1(i in T) / |T|], when it holds the k most probable items.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def ceilings(
    preference: Tensor | None, draws: Tensor | None = None, k: int = 10
) -> dict[str, float]:
    """Bounds on mean test metrics in expectation over targets.

    preference `[P, N]`; draws `[P]` = M of each prompt, None = 1. `truth_pass_at_1` is the level of
    the true preferences sampled at T = 1, not a ceiling. Empty where preference is None.
    """
    if preference is None:
        return {}
    if draws is None:
        draws = torch.ones(len(preference), dtype=torch.int64)
    best = preference.topk(min(k, preference.shape[1]), dim=-1).values
    many = draws.unsqueeze(-1)
    hit = 1 - (1 - preference) ** many
    recall = torch.zeros(len(preference), dtype=preference.dtype)
    for count in sorted(set(draws.tolist())):
        mine = draws == count
        recall[mine] = recall_share(preference[mine], best[mine], count).sum(-1)
    return {
        "ceiling_pass_at_1": (1 - (1 - best[:, 0]) ** draws).mean().item(),
        f"ceiling_hr_at_{k}": (1 - (1 - best.sum(-1)).clamp(min=0) ** draws).mean().item(),
        f"ceiling_recall_at_{k}": recall.mean().item(),
        "truth_pass_at_1": (preference * hit).sum(-1).mean().item(),
    }


def recall_share(preference: Tensor, p: Tensor, draws: int) -> Tensor:
    """E[1(i in T) / |T|] of items with probability p; `[P, N]`, `[P, k]` -> `[P, k]`.

    E[1(i in T) x^(|T|-1)], integrated over x in [0, 1] by Gauss-Legendre (exact, its degree is
    below M), is M! times a coefficient of (e^{p_i z} - 1) prod_{j != i} (1 + x (e^{p_j z} - 1)),
    whose logarithm is a sum over the power sums of P with Bernoulli cumulants.
    """
    sums = [preference.pow(m).sum(-1, keepdim=True) - p.pow(m) for m in range(1, draws)]
    nodes, weights = np.polynomial.legendre.leggauss(draws)
    factorial = np.cumprod([1.0, *range(1, draws + 1)])
    total = torch.zeros_like(p)
    for x, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        cumulant = _bernoulli_cumulants(float(x), draws)
        log = [cumulant[m - 1] / factorial[m] * sums[m - 1] for m in range(1, draws)]
        others = [torch.ones_like(p)]
        for n in range(1, draws):
            others.append(sum(m * log[m - 1] * others[n - m] for m in range(1, n + 1)) / n)
        coefficient = torch.zeros_like(p)
        for m in range(1, draws + 1):
            coefficient = coefficient + p.pow(m) / factorial[m] * others[draws - m]
        total = total + weight * factorial[draws] * coefficient
    return total


def _bernoulli_cumulants(x: float, order: int) -> list[float]:
    """Cumulants 1..order of a Bernoulli variable with mean x: k_{n+1} = x (1 - x) dk_n / dx."""
    polynomial = np.polynomial.Polynomial([0.0, 1.0])
    found = []
    for _ in range(order):
        found.append(float(polynomial(x)))
        polynomial = np.polynomial.Polynomial([0.0, 1.0, -1.0]) * polynomial.deriv()
    return found
