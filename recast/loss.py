"""Loss: how advantages become a gradient.

Shapes: log-probabilities are per token, `[..., B, U, L]` (U rows of L codes per prompt, nats);
advantages and row masks are `[..., B, U]` (advantages `[..., B, U, L]` where credit differs by
token). The loss of each leading index is independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from recast.groups import Origin
from recast.signal import Signal
from recast.stage import bind
from recast.stages.supervised import Evidence, of_all_targets
from recast.stages.surrogate import RATIOS, Terms, surrogate
from recast.strategy import Denominator, Strategy

KLEstimator = Literal["k1", "k2", "k3"]


@dataclass(frozen=True)
class LossSettings:
    """clip_low, clip_high: how far the ratio may move below and above 1; kl_weight: coefficient of
    the KL term to the reference; kl_estimator: k1, k2 or k3."""

    clip_low: float = 0.2
    clip_high: float = 0.28
    kl_weight: float = 0.0
    kl_estimator: KLEstimator = "k3"


@dataclass(frozen=True)
class Rows:
    """The rows that a trainer scores: index `[..., B, U]` into the group; advantage, active
    (`[..., B, U]` bool: reaches the actor), anchor (`[..., B, U]` bool: injected)."""

    index: Tensor
    advantage: Tensor
    active: Tensor
    anchor: Tensor


def pack(signal: Signal, width: int) -> Rows:
    """Narrow a signal to `width` rows per group, those that reach the actor first, in slot order.

    width: at least the most rows of any group, as `Strategy.width` gives. No host synchronisation.

    >>> import torch
    >>> from recast import STRATEGIES, RolloutGroups, build_signal
    >>> recast = STRATEGIES["recast"]
    >>> groups = RolloutGroups.of(torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
    >>> rows = pack(build_signal(recast, groups), recast.width(4))
    >>> rows.index, rows.advantage
    (tensor([[0, 2]]), tensor([[-1.,  1.]]))
    """
    group = signal.rows.shape[-1]
    slot = torch.arange(group, device=signal.rows.device)
    # Distinct keys: active slots first, each kind in slot order.
    index = (slot + group * ~signal.rows).argsort(-1)[..., :width]
    advantage = signal.advantage
    if advantage.ndim > signal.rows.ndim:
        wide = index.unsqueeze(-1).expand(*index.shape, advantage.shape[-1])
        narrowed = advantage.gather(-2, wide)
    else:
        narrowed = advantage.gather(-1, index)
    anchor = signal.groups.origin.gather(-1, index) != int(Origin.POLICY)
    return Rows(index, narrowed, signal.rows.gather(-1, index), anchor)


def clipped_surrogate(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    clip_low: float,
    clip_high: float,
    ratio: str = "token",
) -> Tensor:
    """-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A) per token; `[..., B, U, L]`.

    advantage `[..., B, U]` or `[..., B, U, L]`. ratio = exp(logp - old_logp) per token, or for
    "sequence" exp of its mean over the row's tokens, the same for each of them.
    Source: PPO, arXiv 1707.06347; two-sided clip of DAPO, arXiv 2503.14476; sequence ratio of GSPO,
    arXiv 2507.18071.
    """
    weight = _per_token(advantage, logp)
    rule = bind("ratio", RATIOS, ratio)
    return surrogate(Terms(logp, old_logp, weight, clip_low, clip_high, rule))


def _per_token(advantage: Tensor, logp: Tensor) -> Tensor:
    return advantage if advantage.ndim == logp.ndim else advantage.unsqueeze(-1)


def kl_estimate(logp: Tensor, ref_logp: Tensor, estimator: KLEstimator = "k3") -> Tensor:
    """Sampled KL(policy || reference) per token, in nats; the shape of `logp`.

    With d = ref_logp - logp: k1 = -d, k2 = d^2 / 2, k3 = exp(d) - d - 1 (verl's low_var_kl).
    Raises ValueError for another estimator. Source: Schulman, "Approximating KL divergence" (2020).

    >>> import torch
    >>> kl_estimate(torch.tensor([-1.0]), torch.tensor([-1.5]), "k1")
    tensor([0.5000])
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
    """What the summed loss is divided by; float `[...]`, at least 1 (live_groups: above 0).

    "rollouts": valid rollouts of the batch; "active": those with a non-zero advantage; "tokens":
    codes of the rollouts that reach the actor (`length` each, or the groups' own lengths);
    "prompts": B, a sum per prompt; "constant": B x G x length slots, whatever the batch holds;
    "live_groups": rollouts times the share of groups with an advantage.

    >>> import torch
    >>> from recast import STRATEGIES, RolloutGroups, build_signal
    >>> groups = RolloutGroups.of(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    >>> signal = build_signal(STRATEGIES["grpo"], groups)
    >>> denominator(signal, "rollouts", length=3), denominator(signal, "active", length=3)
    (tensor(4.), tensor(2.))
    """
    return _DENOMINATORS[kind](signal, length).to(signal.advantage.dtype)


def _rollouts(signal: Signal, length: int) -> Tensor:
    del length
    return signal.groups.valid.sum((-2, -1)).clamp(min=1)


def _active(signal: Signal, length: int) -> Tensor:
    del length
    return signal.active.sum((-2, -1)).clamp(min=1)


def _tokens(signal: Signal, length: int) -> Tensor:
    own = signal.groups.length
    count = signal.rows * (length if own is None else own)
    return count.sum((-2, -1)).clamp(min=1)


def _prompts(signal: Signal, length: int) -> Tensor:
    del length
    valid = signal.groups.valid
    return torch.full_like(valid[..., 0, 0], valid.shape[-2], dtype=torch.int64)


def _constant(signal: Signal, length: int) -> Tensor:
    valid = signal.groups.valid
    return torch.full_like(
        valid[..., 0, 0], valid.shape[-2] * valid.shape[-1] * length, dtype=torch.int64
    )


def _live_groups(signal: Signal, length: int) -> Tensor:
    live = signal.active.any(-1).sum(-1).clamp(min=1)
    filled = signal.groups.valid.any(-1).sum(-1).clamp(min=1)
    return _rollouts(signal, length) * (live.double() / filled)


_DENOMINATORS: Mapping[str, Callable[[Signal, int], Tensor]] = MappingProxyType(
    {
        "rollouts": _rollouts,
        "active": _active,
        "tokens": _tokens,
        "prompts": _prompts,
        "constant": _constant,
        "live_groups": _live_groups,
    }
)


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
    ratio: str = "token",
    clip: str = "ppo",
    anchor: Tensor | None = None,
    anchor_ratio: str = "one",
) -> Tensor:
    """Surrogate policy gradient with a KL term, summed over tokens and rows, divided; `[...]`.

    logp, old_logp, ref_logp `[..., B, U, L]`; advantage `[..., B, U]` or `[..., B, U, L]`; rows
    `[..., B, U]`; divisor `[...]` from `denominator`; anchor `[..., B, U]` marks injected rows,
    whose loss follows `anchor_ratio`; ratio, clip, anchor_ratio: rows of
    `recast.stages.surrogate`, as text. A row outside `rows` adds nothing, not even KL.
    """
    outside = ~rows.unsqueeze(-1)
    # Masked before exp as well as after: the gradient of a masked exp(inf) is 0 x inf = NaN.
    logp, old_logp = logp.masked_fill(outside, 0.0), old_logp.masked_fill(outside, 0.0)
    terms = Terms(
        logp,
        old_logp,
        _per_token(advantage, logp),
        clip_low,
        clip_high,
        bind("ratio", RATIOS, ratio),
    )
    loss = surrogate(terms, clip, anchor, anchor_ratio)
    if kl_weight and ref_logp is not None:
        ref_logp = ref_logp.masked_fill(outside, 0.0)
        loss = loss + kl_weight * kl_estimate(logp, ref_logp, kl_estimator)
    return loss.masked_fill(outside, 0.0).sum((-3, -2, -1)) / divisor


def on_policy_weight(strategy: Strategy, signal: Signal) -> Tensor:
    """What each rollout weighs in the first step: its advantage, or for a loss that bends it minus
    the slope of the loss by the rollout's log-probability; the shape of the advantage.

    For a loss that needs `logp` it stands for rollouts of probability 1, and says nothing.
    """
    advantage = signal.advantage
    if not strategy.bends:
        return advantage
    weight = _per_token((advantage * signal.rows).detach(), advantage.unsqueeze(-1))
    leaf = torch.zeros_like(weight, requires_grad=True)
    rule = strategy.stage("ratio")
    settings = LossSettings()
    with torch.enable_grad():
        terms = Terms(leaf, leaf.detach(), weight, settings.clip_low, settings.clip_high, rule)
        total = surrogate(terms, strategy.clip).sum()
        (slope,) = torch.autograd.grad(total, leaf)
    return -slope.squeeze(-1)


def supervised_loss(target_logp: Tensor, weight: float | Tensor) -> Tensor:
    """weight x mean over prompts of -log p(target); `[...]`.

    target_logp `[..., B]`: log-probability of each prompt's target, summed over its codes, nats.
    """
    return -(weight * target_logp).mean(-1)


def strategy_loss(
    strategy: Strategy,
    signal: Signal,
    rows: Rows,
    *,
    length: int,
    settings: LossSettings,
    logp: Tensor | None = None,
    old_logp: Tensor | None = None,
    ref_logp: Tensor | None = None,
    evidence: Evidence | None = None,
) -> Tensor:
    """The whole loss of a strategy on one batch: policy term, KL and supervised term; `[...]`.

    rows: from `pack`; logp, old_logp, ref_logp `[..., B, U, L]` of these rows, with gradient in
    logp alone, None when the strategy sends no rollouts to the actor; length: codes per rollout L;
    evidence: the target's log-probabilities, for strategies that learn from the target.
    """
    total = signal.advantage.new_zeros(signal.rows.shape[:-2])
    if old_logp is not None and "logp" in strategy.stage("repair").stage.needs:
        old_logp = _as_sampled(signal, rows, old_logp)
    if logp is not None and old_logp is not None and strategy.has_credit:
        total = total + strategy.policy_weight * policy_loss(
            logp,
            old_logp,
            rows.advantage,
            rows.active,
            denominator(signal, strategy.denominator, length),
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
            ref_logp=ref_logp,
            kl_weight=settings.kl_weight,
            kl_estimator=settings.kl_estimator,
            ratio=strategy.ratio,
            clip=strategy.clip,
            anchor=rows.anchor,
            anchor_ratio=strategy.anchor_ratio,
        )
    if strategy.learns_from_target and evidence is not None:
        known = replace(
            evidence,
            hits=signal.hits,
            valid=signal.valid,
            rows_logp=None if logp is None else logp.sum(-1),
            rows_ref_logp=None if ref_logp is None else ref_logp.sum(-1),
            rows=rows.active,
            hinted=None if signal.groups.hinted is None else signal.groups.hinted.amax(-1),
        )
        total = total + of_all_targets(strategy.stage("supervised"), known).mean(-1)
    return total


def _as_sampled(signal: Signal, rows: Rows, old_logp: Tensor) -> Tensor:
    """old_logp `[..., B, U, L]` with that of replayed rows under the policy that sampled them."""
    known = signal.groups.logp
    if known is None:
        return old_logp
    wide = rows.index.unsqueeze(-1)
    then = known.gather(-2, wide.expand(*rows.index.shape, known.shape[-1]))
    replayed = signal.groups.origin.gather(-1, rows.index) == int(Origin.REPLAY)
    return torch.where(replayed.unsqueeze(-1), then.to(old_logp.dtype), old_logp)
