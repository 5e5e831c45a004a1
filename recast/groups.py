"""Rollout groups: what a policy sampled for each prompt, and how it was judged.

Shapes: leading axes are free (runs, say), then B prompts, then G rollouts: `[..., B, G]`.
A batch is ragged where `valid` is False; padding carries reward 0 and score 0.
Rewards are unitless outcomes, a hit is `reward > hit_threshold`; structural scores lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import torch
from torch import Tensor


class Origin(IntEnum):
    """Where a rollout came from: sampled from the policy, the ground truth, or never trained."""

    POLICY = 0
    ANCHOR = 1
    VIRTUAL = 2


@dataclass(frozen=True)
class RolloutGroups:
    """The G rollouts of each of B prompts. Build one with `RolloutGroups.of`, which validates.

    The fields are the arguments of `of`, and two more: origin `[..., B, G]` int8, an `Origin` each;
    binary: every reward is 0 or 1, as credits that count hits demand.

    >>> import torch
    >>> groups = RolloutGroups.of(torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    >>> groups.hit.sum(-1)
    tensor([0, 1])
    >>> RolloutGroups.of(torch.tensor([[0, 1]]))
    Traceback (most recent call last):
    ValueError: reward: expected a floating-point tensor [..., B, G], got torch.int64 [1, 2]
    """

    reward: Tensor
    score: Tensor
    valid: Tensor
    origin: Tensor
    tie_key: Tensor | None = None
    has_target: Tensor | None = None
    hit_threshold: float = 0.0
    length: Tensor | None = None
    entropy: Tensor | None = None
    beam_rank: Tensor | None = None
    matched: Tensor | None = None
    item: Tensor | None = None
    depth: int = 0
    binary: bool = False

    @staticmethod
    def of(
        reward: Tensor,
        *,
        score: Tensor | None = None,
        valid: Tensor | None = None,
        tie_key: Tensor | None = None,
        has_target: Tensor | None = None,
        hit_threshold: float = 0.0,
        length: Tensor | None = None,
        entropy: Tensor | None = None,
        beam_rank: Tensor | None = None,
        matched: Tensor | None = None,
        item: Tensor | None = None,
        depth: int = 0,
    ) -> RolloutGroups:
        """Check a batch of rollouts once, at the boundary; stages trust it afterwards.

        reward `[..., B, G]` float outcome; score `[..., B, G]` structural score in [0, 1], default
        0; valid `[..., B, G]` bool, False on padding, default True; tie_key `[..., B, G]` breaks
        ties, the smallest key wins (default: the lowest index wins); has_target `[..., B]` bool,
        whether a ground truth is known (default: it is).
        Inputs that only some strategies need: length `[..., B, G]` tokens of each rollout, above 0;
        entropy `[..., B, G, L]` of the policy at each token, nats; beam_rank `[..., B, G]` integer,
        0 is the best beam; matched `[..., B, G]` integer, leading codes shared with the target;
        item `[..., B, G]` integer identity of what was recommended; depth: codes L of each rollout,
        for credit that differs by code.

        Raises ValueError for a reward that is not floating point, a shape or type that differs, a
        NaN or infinite value on a valid rollout, a score outside [0, 1], or a length below 1.
        """
        if reward.ndim < 2 or not reward.is_floating_point():
            raise ValueError(
                f"reward: expected a floating-point tensor [..., B, G], "
                f"got {reward.dtype} {list(reward.shape)}"
            )
        valid = torch.ones_like(reward, dtype=torch.bool) if valid is None else valid
        score = torch.zeros_like(reward) if score is None else score
        named = {
            "score": score,
            "valid": valid,
            "tie_key": tie_key,
            "length": length,
            "beam_rank": beam_rank,
            "matched": matched,
            "item": item,
        }
        for name, tensor in named.items():
            if tensor is not None and tensor.shape != reward.shape:
                raise ValueError(
                    f"{name}: expected the shape of reward {list(reward.shape)}, "
                    f"got {list(tensor.shape)}"
                )
        if entropy is not None and (
            entropy.shape[:-1] != reward.shape or not entropy.is_floating_point()
        ):
            raise ValueError(
                f"entropy: expected floating point {[*reward.shape, 'L']}, "
                f"got {entropy.dtype} {list(entropy.shape)}"
            )
        if valid.dtype != torch.bool:
            raise ValueError(f"valid: expected bool, got {valid.dtype}")
        for name in ("beam_rank", "matched", "item"):
            tensor = named[name]
            if tensor is not None and (tensor.is_floating_point() or tensor.dtype == torch.bool):
                raise ValueError(f"{name}: expected integers, got {tensor.dtype}")
        if has_target is not None and (
            has_target.shape != reward.shape[:-1] or has_target.dtype != torch.bool
        ):
            raise ValueError(
                f"has_target: expected bool {list(reward.shape[:-1])}, "
                f"got {has_target.dtype} {list(has_target.shape)}"
            )
        finite = {"reward": reward, "score": score, "tie_key": tie_key, "length": length}
        for name, tensor in finite.items():
            _require(
                name, tensor, valid, torch.isfinite, "NaN or infinite at {}; expected finite values"
            )
        in_range = "expected structural scores in [0, 1]; outside at {}"
        _require("score", score, valid, lambda x: (x >= 0) & (x <= 1), in_range)
        _require("length", length, valid, lambda x: x >= 1, "below 1 at {}; expected tokens >= 1")
        if entropy is not None:
            usable = (entropy.isfinite() & (entropy >= 0)).all(-1)
            _require("entropy", usable, valid, lambda x: x, "NaN or negative at {}; expected nats")
        reward = reward.masked_fill(~valid, 0.0)
        return RolloutGroups(
            reward=reward,
            score=score.to(reward.dtype).masked_fill(~valid, 0.0),
            valid=valid,
            origin=torch.full_like(reward, Origin.POLICY, dtype=torch.int8),
            tie_key=None
            if tie_key is None
            else (tie_key if tie_key.is_floating_point() else tie_key.double()).masked_fill(
                ~valid, 0.0
            ),
            has_target=has_target,
            hit_threshold=hit_threshold,
            length=None if length is None else length.to(reward.dtype).masked_fill(~valid, 0.0),
            entropy=None
            if entropy is None
            else entropy.to(reward.dtype).masked_fill(~valid.unsqueeze(-1), 0.0),
            # Wide and signed: an anchor is item -1, and ranks behind every beam.
            beam_rank=None if beam_rank is None else beam_rank.long(),
            matched=matched,
            item=None if item is None else item.long(),
            depth=depth,
            binary=bool(((reward == 0) | (reward == 1)).all()),
        )

    @property
    def given(self) -> frozenset[str]:
        """The optional inputs that are present."""
        names = ("tie_key", "length", "entropy", "beam_rank", "matched", "item")
        present = {name for name in names if getattr(self, name) is not None}
        return frozenset(present | {"target"} | ({"depth"} if self.depth else set()))

    @cached_property
    def whole(self) -> bool:
        """Whether masking by `valid` changes nothing, where that is known without waiting.

        On a CPU: every slot is valid. False on a device, which would have to be waited for. Skips
        work and never a bit: what is skipped multiplies by 1.
        """
        mask = self.valid
        return mask.is_cpu and mask.numel() > 0 and bool(mask.view(torch.uint8).min())

    @cached_property
    def present(self) -> Tensor | None:
        """Valid rollouts as 0 and 1; `[..., B, G]`. None for `whole` groups."""
        return None if self.whole else number(self.valid, self.reward.dtype)

    @cached_property
    def above(self) -> Tensor:
        """Outcomes above the threshold, padding included; bool `[..., B, G]`."""
        if self.binary and 0.0 <= self.hit_threshold < 1.0:
            return self.reward.to(torch.bool)
        return compared(torch.gt, self.reward, self.hit_threshold)

    def narrowed(self, valid: Tensor) -> RolloutGroups:
        """The same rollouts with fewer of them valid."""
        if valid is self.valid:
            return self
        groups = replace(self, valid=valid)
        groups.__dict__["above"] = self.above
        return groups

    @cached_property
    def hit(self) -> Tensor:
        """Rollouts whose outcome is above the threshold; bool `[..., B, G]`."""
        return self.above if self.whole else self.valid & self.above

    @cached_property
    def miss(self) -> Tensor:
        """Valid rollouts that are not hits; bool `[..., B, G]`."""
        return self.valid ^ self.hit

    @cached_property
    def some_hit(self) -> Tensor:
        """Groups with a hit; bool `[..., B, 1]`."""
        if self.whole:
            return self.reward.amax(-1, keepdim=True) > self.hit_threshold
        return some(self.hit)


def _require(
    name: str,
    tensor: Tensor | None,
    valid: Tensor,
    check: Callable[[Tensor], Tensor],
    complaint: str,
) -> None:
    """Raise ValueError, naming the first place, where a valid rollout fails the check."""
    if tensor is not None and not bool((check(tensor) | ~valid).all()):
        where = (~check(tensor) & valid).nonzero()[0].tolist()
        raise ValueError(f"{name}: {complaint.format(f'index {where}')}")


def regime(hit: Tensor, valid: Tensor) -> Tensor:
    """Regime of each group as an index into `recast.REGIMES`; int64 `[..., B]`.

    hit, valid: bool `[..., B, G]`. All-zero K = 0 (a group without rollouts too), saturated K = G
    (at G = 1 a hit is saturated), single-hit K = 1 < G, multi-hit 2 <= K < G. Source: arXiv
    2604.22169, section 3.

    >>> import torch
    >>> hit = torch.tensor([[False, False], [True, False], [True, True]])
    >>> regime(hit, torch.ones_like(hit))
    tensor([0, 1, 3])
    """
    hits, width = (hit & valid).sum(-1), valid.sum(-1)
    index = hits.clamp(max=2)
    return torch.where((hits == width) & (hits > 0), 3, index)


def number(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask as 0 and 1. On a CPU its bytes convert seven times faster than its bools."""
    return mask.view(torch.uint8).to(dtype)


def compared(operator: Callable[..., Tensor], left: Tensor, right: Tensor | float) -> Tensor:
    """operator(left, right) as a bool mask of the shape of `left`.

    On a CPU a comparison that writes numbers is vectorised and one that writes bools is not: this
    detour takes a third of the time.
    """
    return operator(left, right, out=torch.empty_like(left)).to(torch.bool)


def some(mask: Tensor) -> Tensor:
    """Whether any rollout is marked; bool `[..., 1]`. On a CPU four times faster than `any`."""
    return number(mask, torch.float32).amax(-1, keepdim=True) > 0


def best_index(
    value: Tensor, among: Tensor | None, tie_key: Tensor | None, *, least: bool = False
) -> tuple[Tensor, Tensor]:
    """Index of the largest (or least) value among the marked rollouts, and that value; `[..., 1]`.

    among: bool `[..., G]`, or None for every rollout. Ties go to the smallest `tie_key`, or to the
    lowest index without one. Where no rollout is marked, the value is the lowest (highest) number
    there is and the index is arbitrary, but valid.
    """
    beyond = torch.finfo(value.dtype).max if least else torch.finfo(value.dtype).min
    if among is not None:
        value = _unless(value, number(among, value.dtype), beyond)
    best = value.amin(-1, keepdim=True) if least else value.amax(-1, keepdim=True)
    tied = torch.eq(value, best, out=torch.empty_like(value))
    if tie_key is not None:
        last = torch.finfo(tie_key.dtype).max
        key = _unless(tie_key, tied.to(tie_key.dtype), last)
        tied = torch.eq(key, key.amin(-1, keepdim=True), out=key)
    far = tied.mul_(_distance(tied)).amax(-1, keepdim=True)
    return _from_end(far, value.shape[-1]), best


def first_marked(mark: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest index whose mark is 1, of marks 0 and 1, and whether there is one; `[..., 1]`.

    The index is the last one where there is none.
    """
    far = (mark * _distance(mark)).amax(-1, keepdim=True)
    return _from_end(far, mark.shape[-1]), far > 0


def _distance(mark: Tensor) -> Tensor:
    """How far each slot is from the end: the lowest index is the farthest; `[G]`.

    argmax is slow on a CPU and promises nothing about ties.
    """
    return torch.arange(mark.shape[-1], 0, -1, device=mark.device, dtype=mark.dtype)


def _from_end(far: Tensor, group: int) -> Tensor:
    """The index at a distance from the end, the last one at distance 0; int64."""
    return (group - far.clamp(min=1)).to(torch.int64)


def _unless(value: Tensor, present: Tensor, other: float) -> Tensor:
    """The value where `present` is 1, `other` where it is 0; both finite."""
    return torch.addcmul((1 - present).mul_(other), value, present)


def first_best(value: Tensor, among: Tensor, tie_key: Tensor | None) -> Tensor:
    """One-hot of `best_index`; bool `[..., G]`. All False where no rollout is marked."""
    index, best = best_index(value, among, tie_key)
    return torch.zeros_like(among).scatter_(-1, index, best > torch.finfo(value.dtype).min)


def tie_order(groups: RolloutGroups) -> Tensor:
    """Place of each rollout in the order in which ties are broken, 0 first; int64 `[..., B, G]`."""
    if groups.tie_key is None:
        return torch.arange(groups.reward.shape[-1], device=groups.reward.device).expand(
            groups.reward.shape
        )
    return groups.tie_key.argsort(dim=-1, stable=True).argsort(-1)


def first_by(priority: Tensor, among: Tensor, order: Tensor, count: Tensor) -> Tensor:
    """The `count` marked rollouts with the smallest priority; bool `[..., G]`.

    priority: integer `[..., G]`; ties follow `order` (from `tie_order`); count `[..., 1]`.
    """
    width = priority.shape[-1]
    key = (priority * width + order).masked_fill(~among, torch.iinfo(torch.int64).max)
    return among & (key.argsort(-1).argsort(-1) < count)
