"""Surrogates: what one row's log-probabilities and advantage become before they are summed.

Three tables of stages. `RATIOS`: from the change of each code's log-probability to the logarithm of
the importance ratio. `CLIPS`: from a `Terms` to the loss per code. `ANCHOR_RATIOS`: what an
injected row's loss is instead; each takes a `Terms` and the loss that a sampled row would get.
A switch of the loss (CISPO, dual clip, GMPO) is a function and a row of `CLIPS`.
Shapes: B prompts, U rows, L codes, `[..., B, U, L]`; nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recast.stage import Bound, Stage, bind


@dataclass(frozen=True)
class Terms:
    """What a surrogate may look at, all `[..., B, U, L]`: log-probability of each code (with
    gradient) and of the policy that rolled out; advantage, the same shape or with L = 1; how far
    the ratio may move below and above 1; ratio: a row of `RATIOS`."""

    logp: Tensor
    old_logp: Tensor
    advantage: Tensor
    clip_low: float
    clip_high: float
    ratio: Bound

    @property
    def importance(self) -> Tensor:
        """The importance ratio of each code, with gradient."""
        log_ratio: Tensor = self.ratio(self.logp - self.old_logp)
        return log_ratio.exp()


def token(change: Tensor) -> Tensor:
    """Each code has a ratio of its own. Source: PPO, arXiv 1707.06347."""
    return change


def sequence(change: Tensor) -> Tensor:
    """One ratio per row, exp of the mean change of its codes. Source: GSPO, arXiv 2507.18071."""
    return change.mean(-1, keepdim=True).expand_as(change)


def ppo(terms: Terms) -> Tensor:
    """-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A).

    Source: PPO, arXiv 1707.06347; two-sided clip of DAPO, arXiv 2503.14476.
    """
    value = terms.importance
    clipped = value.clamp(1.0 - terms.clip_low, 1.0 + terms.clip_high)
    return -torch.minimum(value * terms.advantage, clipped * terms.advantage)


def unclipped(terms: Terms) -> Tensor:
    """-ratio A."""
    return -(terms.importance * terms.advantage)


def ratio_one(terms: Terms, usual: Callable[[Terms], Tensor]) -> Tensor:
    """The anchor is treated as if the rollout policy had sampled it: its ratio starts at 1."""
    return usual(terms)


def behaviour_one(terms: Terms, usual: Callable[[Terms], Tensor]) -> Tensor:
    """The anchor's behaviour probability is taken as 1: its ratio is pi / 1, clipped as usual."""
    return usual(replace(terms, old_logp=torch.zeros_like(terms.old_logp)))


def shaped(terms: Terms, usual: Callable[[Terms], Tensor], c: float = 0.1) -> Tensor:
    """-A p / (p + c) per code, not clipped. Source: LUFFY, arXiv 2504.14945."""
    del usual
    p = terms.logp.exp()
    return -(p / (p + c)) * terms.advantage


RATIOS: Mapping[str, Stage] = {"token": Stage(token, idle=True), "sequence": Stage(sequence)}
CLIPS: Mapping[str, Stage] = {"ppo": Stage(ppo, idle=True), "none": Stage(unclipped)}
ANCHOR_RATIOS: Mapping[str, Stage] = {
    "one": Stage(ratio_one, idle=True),
    "behaviour_one": Stage(behaviour_one),
    "shaped": Stage(shaped, by_code=True),
}


def surrogate(
    terms: Terms, clip: str = "ppo", anchor: Tensor | None = None, anchor_ratio: str = "one"
) -> Tensor:
    """Loss of each code, `[..., B, U, L]`; anchor bool `[..., B, U]` marks injected rows.

    Raises ValueError, one line, for an unknown clip or anchor ratio.
    """
    usual, special = bind("clip", CLIPS, clip), bind("anchor_ratio", ANCHOR_RATIOS, anchor_ratio)
    loss: Tensor = usual(terms)
    if anchor is None or special.stage.idle:
        return loss
    return torch.where(anchor.unsqueeze(-1), special(terms, usual), loss)
