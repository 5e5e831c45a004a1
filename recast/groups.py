"""Rollout groups: what a policy sampled for each prompt, and how it was judged.

Shapes: leading axes are free (runs, say), then B prompts, then G rollouts: `[..., B, G]`.
A batch is ragged where `valid` is False; padding carries reward 0 and score 0.
Rewards are unitless outcomes, a hit is `reward > hit_threshold`; structural scores lie in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

REGIMES = ("all_zero", "single_hit", "multi_hit", "saturated")


class Origin(IntEnum):
    """Where a rollout came from."""

    POLICY = 0
    ANCHOR = 1
    VIRTUAL = 2


@dataclass(frozen=True)
class RolloutGroups:
    """The G rollouts of each of B prompts. Build one with `RolloutGroups.of`, which validates."""

    reward: Tensor
    score: Tensor
    valid: Tensor
    origin: Tensor
    tie_key: Tensor | None = None
    has_target: Tensor | None = None
    hit_threshold: float = 0.0

    @staticmethod
    def of(
        reward: Tensor,
        *,
        score: Tensor | None = None,
        valid: Tensor | None = None,
        tie_key: Tensor | None = None,
        has_target: Tensor | None = None,
        hit_threshold: float = 0.0,
    ) -> RolloutGroups:
        """Check a batch of rollouts once, at the boundary; stages trust it afterwards.

        reward `[..., B, G]` float outcome; score `[..., B, G]` structural score in [0, 1], default
        0; valid `[..., B, G]` bool, False on padding, default True; tie_key `[..., B, G]` breaks
        ties, the smallest key wins (default: the lowest index wins); has_target `[..., B]` bool,
        whether a ground truth is known (default: it is).

        Raises ValueError for a reward that is not floating point, a shape that differs, a NaN or
        infinite reward, score or key on a valid rollout, or a score outside [0, 1].
        """
        if reward.ndim < 2 or not reward.is_floating_point():
            raise ValueError(
                f"reward: expected a floating-point tensor [..., B, G], "
                f"got {reward.dtype} {list(reward.shape)}"
            )
        valid = torch.ones_like(reward, dtype=torch.bool) if valid is None else valid
        score = torch.zeros_like(reward) if score is None else score
        for name, tensor in (("score", score), ("valid", valid), ("tie_key", tie_key)):
            if tensor is not None and tensor.shape != reward.shape:
                raise ValueError(
                    f"{name}: expected the shape of reward {list(reward.shape)}, "
                    f"got {list(tensor.shape)}"
                )
        if valid.dtype != torch.bool:
            raise ValueError(f"valid: expected bool, got {valid.dtype}")
        if has_target is not None and (
            has_target.shape != reward.shape[:-1] or has_target.dtype != torch.bool
        ):
            raise ValueError(
                f"has_target: expected bool {list(reward.shape[:-1])}, "
                f"got {has_target.dtype} {list(has_target.shape)}"
            )
        for name, tensor in (("reward", reward), ("score", score), ("tie_key", tie_key)):
            if tensor is not None and not bool((tensor.isfinite() | ~valid).all()):
                where = (~tensor.isfinite() & valid).nonzero()[0].tolist()
                raise ValueError(
                    f"{name}: NaN or infinite at index {where}; expected finite values"
                )
        if not bool(((score >= 0) & (score <= 1) | ~valid).all()):
            raise ValueError("score: expected structural scores in [0, 1]")
        return RolloutGroups(
            reward=reward.masked_fill(~valid, 0.0),
            score=score.to(reward.dtype).masked_fill(~valid, 0.0),
            valid=valid,
            origin=torch.full_like(reward, Origin.POLICY, dtype=torch.int8),
            tie_key=tie_key if tie_key is None or tie_key.is_floating_point() else tie_key.double(),
            has_target=has_target,
            hit_threshold=hit_threshold,
        )

    @property
    def hit(self) -> Tensor:
        """Rollouts whose outcome is above the threshold; bool `[..., B, G]`."""
        return self.valid & (self.reward > self.hit_threshold)

    @property
    def miss(self) -> Tensor:
        """Valid rollouts that are not hits; bool `[..., B, G]`."""
        return self.valid & (self.reward <= self.hit_threshold)


def regime(hit: Tensor, valid: Tensor) -> Tensor:
    """Regime of each group as an index into `REGIMES`; int64 `[..., B]`.

    hit, valid: bool `[..., B, G]`. All-zero K = 0 (a group without rollouts too), saturated K = G
    (at G = 1 a hit is saturated), single-hit K = 1 < G, multi-hit 2 <= K < G. Source: arXiv
    2604.22169, section 3.
    """
    hits, width = (hit & valid).sum(-1), valid.sum(-1)
    index = hits.clamp(max=2)
    return torch.where((hits == width) & (hits > 0), 3, index)


def first_best(value: Tensor, among: Tensor, tie_key: Tensor | None) -> Tensor:
    """One-hot of the largest value among the marked rollouts; bool `[..., G]`.

    Ties go to the smallest `tie_key`, or to the lowest index without one. All False where no
    rollout is marked.
    """
    best = value.masked_fill(~among, -torch.inf).amax(-1, keepdim=True)
    tied = among & (value == best)
    if tie_key is None:
        winner = tied.to(torch.uint8).argmax(-1, keepdim=True)
    else:
        winner = tie_key.masked_fill(~tied, torch.inf).argmin(-1, keepdim=True)
    return torch.zeros_like(among).scatter(-1, winner, True) & among
