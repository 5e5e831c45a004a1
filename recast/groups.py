"""Rollout groups: what a policy sampled for each prompt, and how it was judged.

Shapes: leading axes are free (runs, say), then B prompts, then G rollouts: `[..., B, G]`.
A batch is ragged where `valid` is False; padding carries reward 0 and score 0.
Rewards are unitless outcomes, a hit is `reward > hit_threshold`; structural scores lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import torch
from torch import Tensor


class Origin(IntEnum):
    """Where a rollout came from: this step's policy, the ground truth, or an earlier step."""

    POLICY = 0
    ANCHOR = 1
    REPLAY = 2


OPTIONAL = (
    "tie_key",
    "length",
    "entropy",
    "beam_rank",
    "matched",
    "item",
    "logp",
    "codes",
    "prompt",
)
"""Inputs that only some strategies need."""


@dataclass(frozen=True)
class RolloutGroups:
    """The G rollouts of each of B prompts. Build one with `RolloutGroups.of`, which validates.

    The fields are the arguments of `of`, and more: origin `[..., B, G]` int8, an `Origin` each;
    binary: every reward is 0 or 1, as credits that count hits demand; hinted `[..., B, G]` int64:
    leading codes that were given and not sampled, where rollouts may start behind a hint.

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
    logp: Tensor | None = None
    codes: Tensor | None = None
    prompt: Tensor | None = None
    hinted: Tensor | None = None

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
        logp: Tensor | None = None,
        codes: Tensor | None = None,
        prompt: Tensor | None = None,
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
        for credit that differs by code; logp `[..., B, G, L]` log-probability of each code under
        the policy that sampled it, nats; codes `[..., B, G, L]` integer codes of each rollout;
        prompt `[..., B]` integer place of each prompt in the training set, for a memory per prompt.

        Raises ValueError for a reward that is not floating point, a shape or type that differs, a
        NaN or infinite value on a valid rollout, a score outside [0, 1], or a length below 1.
        """
        _require_reward(reward)
        valid = torch.ones_like(reward, dtype=torch.bool) if valid is None else valid
        score = torch.zeros_like(reward) if score is None else score
        per_rollout = {
            "score": score,
            "valid": valid,
            "tie_key": tie_key,
            "length": length,
            "beam_rank": beam_rank,
            "matched": matched,
            "item": item,
        }
        per_code = {"entropy": entropy, "logp": logp}
        _require_shapes(reward, per_rollout, per_code, codes, prompt)
        whole = {"beam_rank": beam_rank, "matched": matched, "item": item}
        _require_types(reward, valid, whole | {"codes": codes, "prompt": prompt}, has_target)
        _require_values({"reward": reward} | per_rollout | per_code, valid)
        reward = reward.masked_fill(~valid, 0.0)
        if tie_key is not None and not tie_key.is_floating_point():
            tie_key = tie_key.double()
        return RolloutGroups(
            reward=reward,
            score=score.to(reward.dtype).masked_fill(~valid, 0.0),
            valid=valid,
            origin=torch.full_like(reward, Origin.POLICY, dtype=torch.int8),
            tie_key=_blank(tie_key, ~valid),
            has_target=has_target,
            hit_threshold=hit_threshold,
            length=_blank(length, ~valid, reward.dtype),
            entropy=_blank(entropy, ~valid.unsqueeze(-1), reward.dtype),
            # Wide and signed: an anchor is item -1, and ranks behind every beam.
            beam_rank=None if beam_rank is None else beam_rank.long(),
            matched=matched,
            item=None if item is None else item.long(),
            depth=depth,
            logp=_blank(logp, ~valid.unsqueeze(-1), reward.dtype),
            codes=None if codes is None else codes.long(),
            prompt=None if prompt is None else prompt.long(),
            binary=bool(((reward == 0) | (reward == 1)).all()),
        )

    @property
    def given(self) -> frozenset[str]:
        """The optional inputs that are present."""
        present = {name for name in OPTIONAL if getattr(self, name) is not None}
        return frozenset(present | {"target", "score"} | ({"depth"} if self.depth else set()))

    def narrowed(self, valid: Tensor) -> RolloutGroups:
        """The same rollouts with fewer of them valid."""
        return replace(self, valid=valid)

    @cached_property
    def hit(self) -> Tensor:
        """Rollouts whose outcome is above the threshold; bool `[..., B, G]`."""
        return self.valid & (self.reward > self.hit_threshold)

    @cached_property
    def miss(self) -> Tensor:
        """Valid rollouts that are not hits; bool `[..., B, G]`."""
        return self.valid & ~self.hit

    @property
    def some_hit(self) -> Tensor:
        """Groups with a hit; bool `[..., B, 1]`."""
        return self.hit.any(-1, keepdim=True)


def _blank(
    value: Tensor | None, padding: Tensor, dtype: torch.dtype | None = None
) -> Tensor | None:
    """The value with 0 on padding; None stays None."""
    return None if value is None else value.to(dtype or value.dtype).masked_fill(padding, 0.0)


def _require_reward(reward: Tensor) -> None:
    if reward.ndim < 2 or not reward.is_floating_point():
        raise ValueError(
            f"reward: expected a floating-point tensor [..., B, G], "
            f"got {reward.dtype} {list(reward.shape)}"
        )


def _require_shapes(
    reward: Tensor,
    per_rollout: Mapping[str, Tensor | None],
    per_code: Mapping[str, Tensor | None],
    codes: Tensor | None,
    prompt: Tensor | None,
) -> None:
    """Raise ValueError for an input whose shape is not that of reward, with codes or without G."""
    for name, tensor in per_rollout.items():
        if tensor is not None and tensor.shape != reward.shape:
            raise ValueError(
                f"{name}: expected the shape of reward {list(reward.shape)}, "
                f"got {list(tensor.shape)}"
            )
    for name, tensor in per_code.items():
        if tensor is not None and (
            tensor.shape[:-1] != reward.shape or not tensor.is_floating_point()
        ):
            raise ValueError(
                f"{name}: expected floating point {[*reward.shape, 'L']}, "
                f"got {tensor.dtype} {list(tensor.shape)}"
            )
    if codes is not None and codes.shape[:-1] != reward.shape:
        raise ValueError(f"codes: expected {[*reward.shape, 'L']}, got {list(codes.shape)}")
    if prompt is not None and prompt.shape != reward.shape[:-1]:
        raise ValueError(f"prompt: expected {list(reward.shape[:-1])}, got {list(prompt.shape)}")


def _require_types(
    reward: Tensor,
    valid: Tensor,
    whole: Mapping[str, Tensor | None],
    has_target: Tensor | None,
) -> None:
    """Raise ValueError where a mask is not bool or an identity is no integer."""
    if valid.dtype != torch.bool:
        raise ValueError(f"valid: expected bool, got {valid.dtype}")
    for name, tensor in whole.items():
        if tensor is not None and (tensor.is_floating_point() or tensor.dtype == torch.bool):
            raise ValueError(f"{name}: expected integers, got {tensor.dtype}")
    if has_target is not None and (
        has_target.shape != reward.shape[:-1] or has_target.dtype != torch.bool
    ):
        raise ValueError(
            f"has_target: expected bool {list(reward.shape[:-1])}, "
            f"got {has_target.dtype} {list(has_target.shape)}"
        )


def _require_values(given: Mapping[str, Tensor | None], valid: Tensor) -> None:
    """Raise ValueError for a value of a valid rollout that is not finite or out of range."""
    for name in ("reward", "score", "tie_key", "length"):
        complaint = "NaN or infinite at {}; expected finite values"
        _require(name, given[name], valid, torch.isfinite, complaint)
    in_range = "expected structural scores in [0, 1]; outside at {}"
    _require("score", given["score"], valid, lambda x: (x >= 0) & (x <= 1), in_range)
    short = "below 1 at {}; expected tokens >= 1"
    _require("length", given["length"], valid, lambda x: x >= 1, short)
    entropy, logp = given["entropy"], given["logp"]
    if entropy is not None:
        usable = (entropy.isfinite() & (entropy >= 0)).all(-1)
        _require("entropy", usable, valid, lambda x: x, "NaN or negative at {}; expected nats")
    if logp is not None:
        usable = (logp.isfinite() & (logp <= 0)).all(-1)
        _require("logp", usable, valid, lambda x: x, "not in (-inf, 0] at {}; expected nats")


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


def first_best(value: Tensor, among: Tensor, tie_key: Tensor | None) -> Tensor:
    """The marked rollout with the largest value; bool `[..., G]`, at most one of each group.

    among: bool `[..., G]`. Ties go to the smallest `tie_key`, or to the lowest index without one.
    """
    value = value.masked_fill(~among, -torch.inf)
    if tie_key is not None:
        tied = value == value.amax(-1, keepdim=True)
        value = -tie_key.masked_fill(~tied, torch.inf)
    # argmax takes the first of equal values.
    place = torch.arange(value.shape[-1], device=value.device)
    return among & (place == value.argmax(-1, keepdim=True))


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
