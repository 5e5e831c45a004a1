"""Loss: how advantages become a gradient.

Shapes: log-probabilities are per token, `[..., B, U, L]` (U rows of L codes per prompt, nats);
advantages and row masks are `[..., B, U]`. The loss of each leading index is independent.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from recast.strategies import Denominator, Signal

KLEstimator = Literal["k1", "k2", "k3"]


def clipped_surrogate(
    logp: Tensor, old_logp: Tensor, advantage: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A) per token; `[..., B, U, L]`.

    ratio = exp(logp - old_logp), token level. Source: PPO, arXiv 1707.06347; two-sided clip of
    DAPO, arXiv 2503.14476.
    """
    ratio = (logp - old_logp).exp()
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    weight = advantage.unsqueeze(-1)
    return -torch.minimum(ratio * weight, clipped * weight)


def kl_estimate(logp: Tensor, ref_logp: Tensor, estimator: KLEstimator = "k3") -> Tensor:
    """Sampled KL(policy || reference) per token, in nats; the shape of `logp`.

    With d = ref_logp - logp: k1 = -d, k2 = d^2 / 2, k3 = exp(d) - d - 1 (verl's low_var_kl).
    Raises ValueError for another estimator. Source: Schulman, "Approximating KL divergence" (2020).
    """
    d = ref_logp - logp
    if estimator == "k1":
        return -d
    if estimator == "k2":
        return d.square() / 2
    if estimator == "k3":
        return d.exp() - d - 1
    raise ValueError(f"KL estimator: expected k1, k2 or k3, got {estimator!r}")


def denominator(signal: Signal, kind: Denominator, length: int) -> Tensor:
    """What the summed loss is divided by; float `[...]`, at least 1.

    "rollouts": valid rollouts of the batch; "active": those with a non-zero advantage; "tokens":
    codes of the rollouts that reach the actor (length codes each); "prompts": B, a sum per prompt.
    """
    valid = signal.groups.valid
    count = {
        "rollouts": lambda: valid.sum((-2, -1)),
        "active": lambda: (signal.advantage != 0).sum((-2, -1)),
        "tokens": lambda: signal.rows.sum((-2, -1)) * length,
        "prompts": lambda: valid.new_full(valid.shape[:-2], valid.shape[-2], dtype=torch.int64),
    }[kind]()
    return count.clamp(min=1).to(signal.advantage.dtype)


def policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    rows: Tensor,
    divisor: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    ref_logp: Tensor | None = None,
    kl_weight: float = 0.0,
    kl_estimator: KLEstimator = "k3",
) -> Tensor:
    """Clipped policy gradient with a KL term, summed over tokens and rows, divided; `[...]`.

    logp, old_logp, ref_logp `[..., B, U, L]`; advantage, rows `[..., B, U]`; divisor `[...]` from
    `denominator`. A row outside `rows` adds nothing, not even KL.
    """
    outside = ~rows.unsqueeze(-1)
    # Masked before exp as well as after: the gradient of a masked exp(inf) is 0 x inf = NaN.
    logp, old_logp = logp.masked_fill(outside, 0.0), old_logp.masked_fill(outside, 0.0)
    loss = clipped_surrogate(logp, old_logp, advantage, clip_low, clip_high)
    if kl_weight and ref_logp is not None:
        ref_logp = ref_logp.masked_fill(outside, 0.0)
        loss = loss + kl_weight * kl_estimate(logp, ref_logp, kl_estimator)
    return loss.masked_fill(outside, 0.0).sum((-3, -2, -1)) / divisor


def supervised_loss(target_logp: Tensor, weight: float | Tensor) -> Tensor:
    """weight x mean over prompts of -log p(target); `[...]`.

    target_logp `[..., B]`: log-probability of each prompt's target, summed over its codes, nats.
    """
    return -(weight * target_logp).mean(-1)
