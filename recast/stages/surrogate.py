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


def cispo(terms: Terms) -> Tensor:
    """-clip(ratio) A log pi, the clipped ratio detached: no code loses its gradient.

    Source: CISPO of MiniMax-M1, arXiv 2506.13585; verl `compute_policy_loss_cispo`.
    """
    ratio = terms.importance.clamp(1.0 - terms.clip_low, 1.0 + terms.clip_high)
    return -ratio.detach() * terms.advantage * terms.logp


def dual_clip(terms: Terms, c: float = 3.0) -> Tensor:
    """PPO's loss, at most -c A where A < 0.

    Source: arXiv 1912.09729; verl's default (`clip_ratio_c` 3).
    """
    usual = ppo(terms)
    return torch.where(terms.advantage < 0, usual.minimum(-c * terms.advantage), usual)


def gmpo(terms: Terms) -> Tensor:
    """-A x the geometric mean of the row's clipped ratios.

    The change of each code's log-probability is bounded by -clip_low and clip_high, on the side
    that A pushes to. Source: GMPO, arXiv 2507.20673; verl `compute_policy_loss_geo_mean`.
    """
    change, side = terms.logp - terms.old_logp, terms.advantage.sign()
    bounded = change.clamp(-terms.clip_low, terms.clip_high)
    kept = side * torch.minimum(side * change, side * bounded)
    return -terms.advantage * kept.mean(-1, keepdim=True).exp().expand_as(change)


def sapo(terms: Terms, pos: float = 1.0, neg: float = 1.05) -> Tensor:
    """-A sigmoid(tau (ratio - 1)) 4 / tau, tau by the sign of A: a soft gate for the clip.

    Source: soft adaptive policy optimisation, arXiv 2511.20347; verl, TRL `loss_type="sapo"`.
    """
    up, down = (torch.sigmoid(tau * (terms.importance - 1)) * (4 / tau) for tau in (pos, neg))
    return -(torch.where(terms.advantage > 0, up, down) * terms.advantage)


def dppo(terms: Terms, c: float = 20.0) -> Tensor:
    """-ratio A log pi, the ratio at most c and detached, where the code's probability has moved by
    no more than clip_high up (A > 0) or clip_low down (A < 0).

    Source: DPPO with total variation, arXiv 2602.04879; verl `compute_policy_loss_dppo_tv`.
    """
    moved = (terms.logp.exp() - terms.old_logp.exp()).detach()
    kept = torch.where(terms.advantage > 0, moved <= terms.clip_high, moved >= -terms.clip_low)
    ratio = terms.importance.clamp(max=c).detach()
    return -ratio * terms.advantage * terms.logp * kept


def ecpo(terms: Terms, delta: float = 0.1) -> Tensor:
    """PPO's loss with every ratio held at 1 + clip_high + delta: misses cannot run away.

    Its gradient stays where the ratio is held. Source: ECPO of OneRec, arXiv 2506.13695.
    """
    most = 1.0 + terms.clip_high + delta
    value = terms.importance
    held = most * (terms.logp - terms.logp.detach()).exp()
    value = torch.where(value > most, held, value)
    clipped = value.clamp(1.0 - terms.clip_low, 1.0 + terms.clip_high)
    return -torch.minimum(value * terms.advantage, clipped * terms.advantage)


def gbpo(terms: Terms) -> Tensor:
    """-A pi / max(pi_old, pi') of the whole row, no clip; pi' is pi where A >= 0, else 1 - pi.

    pi' is detached. So a miss weighs pi / (1 - pi), as in binary cross-entropy, at once: less
    than its advantage, and next to nothing for an unlikely item.
    Source: GBPO of OneRec-V2, arXiv 2508.20900, equations 15 and 16.
    """
    total, old = (x.sum(-1, keepdim=True) for x in (terms.logp, terms.old_logp))
    policy = total.detach()
    other = (-policy.exp().clamp(max=1)).log1p()
    below = torch.maximum(old, torch.where(terms.advantage < 0, other, policy))
    return -((total - below).exp() * terms.advantage / terms.logp.shape[-1]).expand_as(terms.logp)


def real(terms: Terms, tau: float = 0.5) -> Tensor:
    """log(1 + sum e^(s/tau)) over rows with A < 0, plus log(1 + sum e^(-s/tau)) over those with
    A > 0, s the mean change of a row's codes; a loss per group, spread over its rows.

    A group without both kinds gives nothing. Before the first step a hit weighs 1 / (tau L (1 +
    hits)) and a miss as much with misses. Source: REAL, arXiv 2602.05630; ms-swift
    `loss_type="real"`.
    """
    score = (terms.logp - terms.old_logp).mean(-1) / tau
    whole = terms.advantage.sum(-1)
    up, down = whole > 0, whole < 0
    sides = [
        torch.nn.functional.pad(side.masked_fill(~among, -torch.inf), (0, 1)).logsumexp(-1)
        for side, among in ((score, down), (-score, up))
    ]
    live = up.any(-1) & down.any(-1)
    rows = (up | down) & live.unsqueeze(-1)
    each = (sides[0] + sides[1]) / (rows.sum(-1).clamp(min=1) * terms.logp.shape[-1])
    return (each[..., None, None] * rows.unsqueeze(-1)).expand_as(terms.logp)


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
CLIPS: Mapping[str, Stage] = {
    "ppo": Stage(ppo, idle=True),
    "none": Stage(unclipped),
    "cispo": Stage(cispo),
    "dual_clip": Stage(dual_clip, bounds={"c": (1, 100)}),
    "gmpo": Stage(gmpo),
    "sapo": Stage(sapo, bounds={"pos": (1e-3, 100), "neg": (1e-3, 100)}),
    "dppo": Stage(dppo, bounds={"c": (1, 1000)}),
    "ecpo": Stage(ecpo),
    "gbpo": Stage(gbpo, needs={"logp"}, bends=True),
    "real": Stage(real, bounds={"tau": (1e-3, 100)}, bends=True),
}
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
