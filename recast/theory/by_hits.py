"""What a strategy makes of a group, by its number of hits.

The whole theory of a group-local strategy on binary rewards is in here: `build_signal`, the code
that training runs, is called once on every group of G rollouts that differs in what can matter,
and its advantages are added up over own hits, misses and anchors.

Axes of every tensor: `[A, M, G + 1]`. A: arrangements, because a strategy may treat the first or
the last slot differently (is slot 0 a hit? is slot G - 1?); M: hits of the *other* group of the
batch, 0..G, for a strategy that looks at the batch (B = 2), else one; last axis: hits k = 0..G of
the group itself. Advantages are unitless, float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.loss import denominator, on_policy_weight
from recast.signal import build_signal, probe
from recast.strategy import Strategy

NOT_IN_HITS: Mapping[str, str] = MappingProxyType(
    {
        "entropy": "its credit depends on the entropy of each token, not on hits alone",
        "depth": "its credit depends on which codes a miss shares with the target",
        "beam_rank": "its groups are beams, whose rollouts are not drawn independently",
        "logp": "its credit depends on how likely each rollout was, not on hits alone",
        "codes": "its credit depends on which codes each rollout has",
    }
)
BY_CODE = "its credit differs by code"
AGAIN = "its groups are sampled in rounds, which depend on what came before"
DRAWN = "which of its all-zero groups are repaired is drawn at random"
CHUNK = 2_000_000
"""Rollouts per call of `build_signal`: bounds the memory of a batch-coupled table."""


@dataclass(frozen=True)
class ByHits:
    """Sums over one group; tensors `[A, M, G + 1]` unless said otherwise.

    width: rollouts sampled, G or more. hit, miss, anchor: summed advantage of the group's own hits,
    of its misses, of its anchors; count: gradient-signal count; square: sum of squared advantages.
    share `[A, 1, G + 1]`: probability of the arrangement given k.
    apart: bool `[G + 1]`, the credit of misses depends on which misses they are (a hard negative),
    so that their gradient is no multiple of the hits'. shifted: the credit of hits depends on it
    too. batch: 1, or 2 where the credit depends on the other group of the batch.
    divisor: what the loss divides one prompt's sum by; divisor_name says it in words.
    """

    width: int
    hit: Tensor
    miss: Tensor
    anchor: Tensor
    count: Tensor
    square: Tensor
    share: Tensor
    apart: Tensor
    shifted: bool
    batch: int
    divisor: float
    divisor_name: str

    def mean(self, value: Tensor) -> Tensor:
        """Average over arrangements; `[A, M, G + 1]` -> `[M, G + 1]`."""
        return (value * self.share).sum(0)


@lru_cache(maxsize=512)
def why_undefined(strategy: Strategy) -> str | None:
    """Why hits and misses alone do not decide what this strategy learns; None where they do."""
    missing = strategy.needs & set(NOT_IN_HITS)
    reasons = [NOT_IN_HITS[name] for name in sorted(missing)]
    reasons += [DRAWN] * strategy.draws_repair + [AGAIN] * strategy.samples_again
    if not missing and probe(strategy, max(4, strategy.least_group)).advantage.ndim > 2:
        reasons.append(BY_CODE)
    return "; ".join(reasons) or None


def sampled_width(strategy: Strategy, group: int) -> int:
    """Rollouts sampled per group of `group`: more where a strategy oversamples."""
    return strategy.sampled(group) or group


@lru_cache(maxsize=512)
def by_hits(strategy: Strategy, group: int) -> ByHits:
    """Run `build_signal` on every kind of group of `group` rollouts; see `ByHits`.

    Misses are alike (structural score 0, distinct items) but for the probes that fill `apart`. A
    stateful strategy starts from its fresh state, in which a gate lets every prompt through.
    Raises ValueError for group < 1, one that the strategy refuses, and for a strategy that hits
    alone do not determine (`why_undefined`).
    """
    if group < 1:
        raise ValueError(f"group: expected at least 1 rollout, got {group}")
    reason = why_undefined(strategy)
    if reason:
        raise ValueError(f"strategy: {reason}")
    width = sampled_width(strategy, group)
    reward, share = arrangements(width)
    single = reward.unsqueeze(1).unsqueeze(-2)
    alone = _tally(strategy, single, "alike")
    probes = [_tally(strategy, single, order) for order in ("rising", "falling")]
    possible = (share > 0).unsqueeze(-1)
    differs = torch.stack([_differs(probe["seen"], alone["seen"]) & possible for probe in probes])
    apart = differs.flatten(0, 2).any(0).any(-1)
    if width > 1:
        # A single miss cannot show that it was chosen: it is treated as groups with two misses are.
        apart[-2] = apart[-3] if width > 2 else by_hits(strategy, 3).apart[1]
    others = (torch.zeros_like(reward), torch.ones_like(reward), reward.flip(1))
    pairs = [
        _tally(strategy, torch.stack([reward, other], dim=-2).unsqueeze(1), "alike")
        for other in others
    ]
    batch, tally = 1, alone
    if any(bool(_differs(pair["seen"], alone["seen"]).any()) for pair in pairs):
        batch, tally = 2, _with_another(strategy, reward)
    divisors = torch.stack([alone["divisor"], *(pair["divisor"] / 2 for pair in pairs)])
    divisor, words = _divisor(strategy, divisors, share)
    return ByHits(
        width=width,
        hit=tally["hit"],
        miss=tally["miss"],
        anchor=tally["anchor"],
        count=tally["count"],
        square=tally["square"],
        share=share,
        apart=apart,
        shifted=any(bool(_differs(p["push"], alone["push"])[share > 0].any()) for p in probes),
        batch=batch,
        divisor=divisor,
        divisor_name=words,
    )


@lru_cache(maxsize=512)
def any_signal(strategy: Strategy, group: int) -> Tensor:
    """Chance that a group with k = 0..W hits gives any signal; `[W + 1]`, W = `sampled_width`.

    The `count > 0` of `by_hits` without its other tables, a sixth of the work. For a strategy whose
    groups do not look at each other (`by_hits(...).batch` is 1). Raises ValueError as `by_hits`.
    """
    if group < 1:
        raise ValueError(f"group: expected at least 1 rollout, got {group}")
    if reason := why_undefined(strategy):
        raise ValueError(f"strategy: {reason}")
    reward, share = arrangements(sampled_width(strategy, group))
    counted = _tally(strategy, reward.unsqueeze(1).unsqueeze(-2), "alike")["count"]
    return ((counted > 0).to(share.dtype) * share).sum(0)[0]


def arrangements(group: int) -> tuple[Tensor, Tensor]:
    """Rewards `[A, G + 1, G]` of each arrangement and hit count, and their share `[A, 1, G + 1]`.

    Four arrangements by whether the first and the last slot are hits (two for G = 1); the other
    hits fill the slots from 1 on. Impossible ones have share 0.
    """
    k = torch.arange(group + 1, dtype=torch.float64)
    if group == 1:
        return torch.tensor([[[0.0], [1.0]]], dtype=torch.float64), torch.ones(
            1, 1, 2, dtype=torch.float64
        )
    misses, pairs = group - k, group * (group - 1)
    share = torch.stack([misses * (misses - 1), k * misses, k * misses, k * (k - 1)]) / pairs
    slot = torch.arange(group)
    rewards = []
    for first, last in ((0, 0), (0, 1), (1, 0), (1, 1)):
        inner = (k - first - last).clamp(0, group - 2).unsqueeze(-1)
        reward = ((slot >= 1) & (slot <= inner) & (slot < group - 1)).to(torch.float64)
        reward[:, 0], reward[:, -1] = first, last
        rewards.append(reward)
    return torch.stack(rewards), share.unsqueeze(1)


def groups_of(reward: Tensor, misses: str = "alike") -> RolloutGroups:
    """Rollout groups with nothing but hits and misses; reward `[..., B, W]` of 0 and 1.

    A hit has structural score 1 and is item 0. misses "alike": every miss scores 0 and is an item
    of its own; "rising" or "falling": their scores and matched codes rise or fall with the slot and
    items repeat, which changes who is picked among them.
    """
    width = reward.shape[-1]
    slot = torch.arange(width)
    place = (slot.to(reward.dtype) + 0.5) / width
    order = slot if misses == "rising" else width - 1 - slot
    structure = (order.to(reward.dtype) + 0.5) / (2 * width) * (misses != "alike")
    near = (order * 3) // width * (misses != "alike")
    item = 1 + (slot if misses == "alike" else order // 2)
    hit = reward > 0
    return RolloutGroups.of(
        reward,
        score=torch.where(hit, 1.0, structure),
        tie_key=place.expand_as(reward),
        matched=torch.where(hit, 3, near),
        item=torch.where(hit, 0, item),
        prompt=torch.arange(reward.shape[-2]).expand(reward.shape[:-1]),
    )


def _tally(strategy: Strategy, reward: Tensor, misses: str) -> dict[str, Tensor]:
    """Sums for the first group of each batch; reward `[..., B, W]` -> `[...]`."""
    signal = build_signal(strategy, groups_of(reward, misses))
    advantage = (on_policy_weight(strategy, signal) * signal.rows)[..., 0, :]
    rows = signal.rows[..., 0, :]
    origin = signal.groups.origin[..., 0, :]
    own = origin == int(Origin.POLICY)
    hit = torch.zeros_like(own)
    hit[..., : reward.shape[-1]] = reward[..., 0, :] > 0
    anchor = origin == int(Origin.ANCHOR)
    return {
        "seen": torch.cat([advantage, rows.to(advantage.dtype)], dim=-1),
        "hit": (advantage * (own & hit)).sum(-1),
        "miss": (advantage * (own & ~hit)).sum(-1),
        "anchor": (advantage * anchor).sum(-1),
        "push": (advantage * (hit | anchor)).sum(-1),
        "count": signal.count[..., 0].to(advantage.dtype),
        "square": advantage.square().sum(-1),
        "divisor": denominator(signal, strategy.denominator, length=1),
    }


def _differs(one: Tensor, other: Tensor) -> Tensor:
    """Where two tables differ by more than the order of a sum can make them."""
    return (one - other).abs() > 1e-9 * (1 + other.abs())


def _with_another(strategy: Strategy, reward: Tensor) -> dict[str, Tensor]:
    """Tallies with a second group of 0..G hits in the batch; `[A, M, G + 1]`."""
    kinds, counts, width = reward.shape
    step = max(1, CHUNK // (2 * kinds * counts * width))
    hits_first = (torch.arange(width) < torch.arange(width + 1).unsqueeze(-1)).to(torch.float64)
    parts = []
    for start in range(0, counts, step):
        other = hits_first[start : start + step]
        shape = (kinds, len(other), counts, width)
        pair = torch.stack(
            [reward.unsqueeze(1).expand(shape), other.unsqueeze(1).expand(shape)], dim=-2
        )
        tally = _tally(strategy, pair, "alike")
        parts.append({name: value for name, value in tally.items() if name != "seen"})
    return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}


def _divisor(strategy: Strategy, seen: Tensor, share: Tensor) -> tuple[float, str]:
    """The constant that divides one prompt's sum, and its name.

    A denominator that counts what a batch happens to hold is one number for all prompts of a large
    batch: it scales w(p) without changing its shape, so it is left out and named.
    """
    kept = seen[(share > 0).expand_as(seen)]
    if bool((kept == kept[0]).all()):
        value = float(kept[0])
        words = "1 (a sum per prompt)" if value == 1 else f"{value:g} ({strategy.denominator})"
        return value, words
    words = f"1 (a sum per prompt; the batch's {strategy.denominator} divides all prompts alike)"
    return 1.0, words
