"""Credit: the advantage of each selected rollout.

Each function maps `RolloutGroups`, already narrowed to the selected rollouts, to advantages
`[..., B, G]` (unitless; `[..., B, G, L]` where credit differs by token) and is a row of `CREDITS`.
Unselected and padded rollouts get 0. A group whose rewards are constant (within a relative
tolerance of 1e-6) gets exactly 0 from every mean-centred formula, and so does a group of one.
Batch statistics run over the axes B and G, never over a leading axis: leading axes are runs.

r is the reward; m and s are the group's mean and sample standard deviation (ddof 1), n its number
of selected rollouts, k its number of hits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from recast.groups import RolloutGroups, first_best
from recast.stage import WIDEST, Stage, State
from recast.stages.by_level import sibling, step_aligned
from recast.stages.confidence import lens
from recast.stages.leave_one_out import nemo_loo, pkpo
from recast.stages.normalise import (
    batch_mean,
    centred_reward,
    constant,
    deviations,
    kept_reward,
    over,
    standard_deviation,
    standardised,
    token_count,
)
from recast.stages.tracker import spo, spo_carry, spo_start
from recast.stages.whiten import gdpo, reinforce_pp, reinforce_pp_baseline

HISTORY = 10
"""Batch means that `ha_dw` remembers, the current one included."""

PREFIX_REWARD = (0.5, 0.707, 0.866, 0.95)
"""Reward of `bgae` for 1, 2, 3 and 4 or more matched leading codes short of a hit."""


def nothing(groups: RolloutGroups) -> Tensor:
    """0 for everyone: the strategy learns from its supervised term alone."""
    return torch.zeros_like(groups.reward)


def grpo(groups: RolloutGroups, eps: float = 1e-6, ddof: int = 1) -> Tensor:
    """(r - m) / (s + eps), s with the given ddof.

    Source: arXiv 2402.03300; verl `compute_grpo_outcome_advantage` (eps 1e-6), TRL (eps 1e-4).
    """
    return standardised(groups.reward, groups.valid, eps, ddof)


def grpo_batch(groups: RolloutGroups, eps: float = 1e-4) -> Tensor:
    """(r - m) / (S + eps), S the sample standard deviation over the whole batch.

    Source: TRL `scale_rewards="batch"`.
    """
    centred, largest, count = deviations(groups.reward.flatten(-2), groups.valid.flatten(-2))
    spread = standard_deviation(centred, largest, count, 1).unsqueeze(-1)
    return over(centred_reward(groups), spread + eps)


def dr_grpo(groups: RolloutGroups) -> Tensor:
    """r - m. Source: arXiv 2503.20783; TRL `scale_rewards="none"`."""
    return centred_reward(groups)


def rloo(groups: RolloutGroups) -> Tensor:
    """r minus the mean of the others = n / (n - 1) (r - m). Source: arXiv 2402.14740."""
    count = groups.valid.sum(-1, keepdim=True).to(groups.reward.dtype)
    return centred_reward(groups) * (count / (count - 1).clamp(min=1))


def opo(groups: RolloutGroups) -> Tensor:
    """r minus the length-weighted mean of the group; without `length` all are equally long.

    Source: arXiv 2505.23585; verl `compute_opo_outcome_advantage`.
    """
    length = token_count(groups)
    baseline = (groups.reward * length).sum(-1, keepdim=True) / length.sum(-1, keepdim=True)
    return (groups.reward - baseline).masked_fill(constant(groups) | ~groups.valid, 0.0)


def reinforce(groups: RolloutGroups) -> Tensor:
    """r minus the mean over every rollout of the batch (axes B and G).

    Negative on an all-zero group as soon as another group of the batch has a hit.
    """
    count = groups.valid.sum((-2, -1), keepdim=True)
    baseline = kept_reward(groups).sum((-2, -1), keepdim=True) / count
    return (groups.reward - baseline).masked_fill(~groups.valid, 0.0)


def gpg(groups: RolloutGroups) -> Tensor:
    """alpha (r - m), alpha = rollouts / max(1, rollouts with a non-zero reward), over the batch.

    Source: verl `compute_gpg_outcome_advantage`. The authors' own variant, arXiv 2504.02546, is
    r - m with the denominator "live_groups".
    """
    rollouts = groups.valid.sum((-2, -1), keepdim=True)
    non_zero = ((groups.reward != 0) & groups.valid).sum((-2, -1), keepdim=True)
    return centred_reward(groups) * (rollouts.to(groups.reward.dtype) / non_zero.clamp(min=1))


def best_of_group(groups: RolloutGroups, eps: float = 1e-6) -> Tensor:
    """The best rollout gets (best - second best) / (s + eps), everyone else 0.

    Source: arXiv 2503.19595; verl `compute_grpo_passk_outcome_advantage`.
    """
    top = first_best(groups.reward, groups.valid, groups.tie_key)
    rest = groups.reward.masked_fill(~groups.valid | top, -torch.inf).amax(-1, keepdim=True)
    centred, largest, count = deviations(groups.reward, groups.valid)
    spread = standard_deviation(centred, largest, count, 1)
    gap = (groups.reward - rest).masked_fill(~top | (spread == 0), 0.0)
    return over(gap, spread + eps)


def pass_at_k(groups: RolloutGroups, k: int = 4) -> Tensor:
    """Group Pass@k: hits get (1 - rho) / sigma, misses (1 - rho - q) / sigma.

    With c hits among n, rho = 1 - C(n-c, k) / C(n, k), q = C(n-c-1, k-1) / C(n-1, k-1) and
    sigma = sqrt(rho (1 - rho)); 0 where sigma is 0 or n < k. Binary rewards.
    Source: arXiv 2508.10751; RUCAIBox `passk_adv.py`.
    """
    n = groups.valid.sum(-1, keepdim=True)
    c = groups.hit.sum(-1, keepdim=True).to(groups.reward.dtype)
    fail = torch.ones_like(n)
    for j in range(k):
        fail = fail * ((n - c - j) / (n - j))
    without = torch.ones_like(n)
    for j in range(k - 1):
        without = without * ((n - 1 - c - j) / (n - 1 - j))
    sigma = (fail * (1 - fail)).sqrt()
    # Where n < k a factor is 0 / 0 or 0 x inf: sigma is NaN, which is not above 0 either.
    live = groups.valid & (sigma > 0)
    return torch.where(live, torch.where(groups.hit, fail, fail - without) / sigma, 0.0)


def maxrl(groups: RolloutGroups, eps: float = 1e-6) -> Tensor:
    """(r - m) / (m + eps). Binary rewards: a negative mean would flip the signs.

    Source: arXiv 2602.02710.
    """
    count = groups.valid.sum(-1, keepdim=True)
    mean = kept_reward(groups).sum(-1, keepdim=True) / count
    return over(centred_reward(groups), mean + eps)


def raw(groups: RolloutGroups) -> Tensor:
    """r itself. With select=positives: PSR of RLVR-Decomposed, arXiv 2506.01347."""
    return kept_reward(groups)


def shortfall(groups: RolloutGroups, positive: float = 0.0) -> Tensor:
    """positive x r on a hit, r - 1 on a miss.

    Source: RLVR-Decomposed, arXiv 2506.01347: NSR (positive 0), W-REINFORCE (positive .1).
    """
    value = torch.where(groups.hit, positive * groups.reward, groups.reward - 1.0)
    return value.masked_fill(~groups.valid, 0.0)


def sign(groups: RolloutGroups, negative_weight: float = 1.0) -> Tensor:
    """+1 on a hit, -negative_weight on a miss. Source: arXiv 2604.22169, section 3 (w = 1)."""
    dtype = groups.reward.dtype
    return groups.hit.to(dtype) - negative_weight * groups.miss.to(dtype)


def sign_beyond_prefix(groups: RolloutGroups, negative_weight: float = 1.0) -> Tensor:
    """As `sign`, but a miss is not pushed down on the leading codes that it shares with the target.

    Without it these codes feel +1 from the hit and -1 from the miss. Returns
    `[..., B, G, L]`. Raises ValueError without `matched` and `depth`.
    """
    if groups.matched is None or not groups.depth:
        raise ValueError("credit=sign_beyond_prefix needs `matched` and `depth` in the groups")
    level = torch.arange(groups.depth, device=groups.matched.device)
    own = groups.hit.unsqueeze(-1) | (level >= groups.matched.unsqueeze(-1))
    return sign(groups, negative_weight).unsqueeze(-1) * own


def care(
    groups: RolloutGroups, k: int = 4, negative_scale: float = 0.5, eps: float = 1e-6
) -> Tensor:
    """GRPO with ddof 0, misses times `negative_scale`, everyone times sqrt(k / misses).

    With select=near_misses(k): the contrast of CARE, arXiv 2512.19554, and its authors' code, which
    also rescues a group without hits (not here: it pushes up the likeliest rollout, a miss).
    """
    value = grpo(groups, eps, ddof=0)
    misses = groups.miss.sum(-1, keepdim=True).clamp(min=1).to(value.dtype)
    return torch.where(value < 0, negative_scale * value, value) * (k / misses).sqrt()


def ngrpo(groups: RolloutGroups, eps: float = 1e-6) -> Tensor:
    """(r - m') / (s' + eps), m' and s' over the group and one virtual r = 1, never trained.

    Source: NGRPO, arXiv 2509.18851.
    """
    some = groups.valid.any(-1, keepdim=True)
    wider = torch.cat([kept_reward(groups), some.to(groups.reward.dtype)], -1)
    return standardised(wider, torch.cat([groups.valid, some], -1), eps)[..., :-1]


def rl_zvp(groups: RolloutGroups, scale: float = 0.1) -> Tensor:
    """GRPO; in a zero-variance group H_t x scale on hits, -(max H - H_t) x scale on misses.

    H_t is the entropy of the policy at token t, nats; the maximum runs over the same rollout.
    Returns `[..., B, G, L]`. Raises ValueError without `entropy`.
    Source: RL-ZVP, arXiv 2509.21880.
    """
    entropy = groups.entropy
    if entropy is None:
        raise ValueError("credit=rl_zvp needs `entropy` in the groups")
    dead = (constant(groups) & groups.valid).unsqueeze(-1)
    regret = entropy.amax(-1, keepdim=True) - entropy
    flat = torch.where(groups.hit.unsqueeze(-1), scale * entropy, -scale * regret)
    return torch.where(dead, flat, grpo(groups).unsqueeze(-1))


def a_grae(groups: RolloutGroups, alpha: float = 1.0, eps: float = 1e-6) -> Tensor:
    """GRPO weighted by difficulty, positives shrunk while the batch rarely hits.

    a = GRPO advantage, M = mean of m over the batch's groups: (1 - M) .5 a / (1 - sqrt m + eps) +
    M .5 a / (sqrt m + eps), positives times min(1, M / alpha). Binary rewards.
    Source: A-GRAE, arXiv 2602.05548.
    """
    value = grpo(groups)
    count = groups.valid.sum(-1, keepdim=True)
    mean = kept_reward(groups).sum(-1, keepdim=True) / count.clamp(min=1)
    live = count > 0
    level = mean.sum(-2, keepdim=True) / live.sum(-2, keepdim=True)
    root = mean.sqrt()
    mixed = (1 - level) * 0.5 * value / (1 - root + eps) + level * 0.5 * value / (root + eps)
    # Dead and saturated groups divide 0 by eps, which may be 0, and an empty batch has no level.
    mixed = mixed.masked_fill(value == 0, 0.0)
    return torch.where(mixed > 0, mixed * (level / alpha).clamp(max=1), mixed)


def ha_dw(groups: RolloutGroups, state: State | None = None, scale: float = 1.5) -> Tensor:
    """scale exp(-sgn(m - h) sgn(r - m) |m - h|) (r - m) / s, h the mean of recent batch means.

    state: `history [..., 10]`, means of earlier batches, NaN where there is none yet; this batch's
    own mean counts as well. Binary rewards. Source: HA-DW, arXiv 2601.08521.
    """
    value = grpo(groups)
    mean = kept_reward(groups).sum(-1, keepdim=True)
    mean = mean / groups.valid.sum(-1, keepdim=True).clamp(min=1)
    own = batch_mean(groups).unsqueeze(-1)
    recent = own if state is None else ha_dw_carry(groups, state)["history"].to(own.dtype)
    level = recent.nanmean(-1)[..., None, None]
    gap = mean - level
    return scale * (-gap.sign() * value.sign() * gap.abs()).exp() * value


def ha_dw_start(leading: tuple[int, ...], prompts: int) -> State:
    """No batch mean is known yet; history `[..., 10]` float64."""
    del prompts
    return {"history": torch.full((*leading, HISTORY), torch.nan, dtype=torch.float64)}


def ha_dw_carry(groups: RolloutGroups, state: State) -> State:
    """The mean of this batch replaces the oldest."""
    mean = batch_mean(groups).unsqueeze(-1).to(torch.float64)
    return {"history": torch.cat([state["history"][..., 1:], mean], -1)}


def bgae(groups: RolloutGroups, k: int = 4, eps: float = 1e-6) -> Tensor:
    """GRPO on the prefix reward plus `pass_at_k`, which counts exact hits, for every rollout.

    The prefix reward is 0, .5, .707, .866, .95 for 0, 1, 2, 3, 4+ matched codes and 1 for a hit, so
    near misses act in a group without hits. Binary outcome. Raises ValueError without `matched`.
    Source: SRPO of GREAM, arXiv 2510.20815; its `compute_passk_outcome_advantage`.
    """
    if groups.matched is None:
        raise ValueError("credit=bgae needs `matched` in the groups")
    table = torch.tensor((0.0, *PREFIX_REWARD), dtype=groups.reward.dtype).to(groups.reward.device)
    near = table[groups.matched.clamp(min=0, max=len(PREFIX_REWARD))]
    prefix = torch.where(groups.hit, torch.ones_like(near), near)
    return standardised(prefix, groups.valid, eps) + pass_at_k(groups, k)


def grpo_score(groups: RolloutGroups, eps: float = 1e-4) -> Tensor:
    """GRPO on `score` in the place of the reward: how near each rollout comes to its target.

    Source: MiniOneRec `rl.py`, semantic reward, with scores of (1 + cosine) / 2 and eps 5e-5.
    """
    return standardised(groups.score * groups.valid, groups.valid, eps)


def rank_penalty(groups: RolloutGroups, eps: float = 1e-4, hit: float = 1.0) -> Tensor:
    """GRPO on hit + rank term: a miss at beam i loses 1/log2(i + 2), normalised over the group.

    hit: what a hit counts; 0 leaves the rank term alone. No penalty in a group without hits.
    Raises ValueError without `beam_rank`.
    Source: MiniOneRec `rl.py`, reward types ranking and, with hit = 0, ranking_only.
    """
    if groups.beam_rank is None:
        raise ValueError("credit=rank_penalty needs `beam_rank` in the groups")
    discount = 1 / (groups.beam_rank.to(groups.reward.dtype) + 2).log2()
    discount = discount.masked_fill(~groups.valid, 0.0)
    share = discount / discount.sum(-1, keepdim=True)
    penalised = groups.miss & groups.hit.any(-1, keepdim=True)
    value = hit * kept_reward(groups) - share.masked_fill(~penalised, 0.0)
    return standardised(value, groups.valid, eps)


CREDITS: Mapping[str, Stage] = {
    "none": Stage(nothing, idle=True),
    "grpo": Stage(grpo, bounds={"ddof": (0, 1)}),
    "grpo_score": Stage(grpo_score, needs={"score"}),
    "grpo_batch": Stage(grpo_batch, coupling="batch"),
    "dr_grpo": Stage(dr_grpo),
    "rloo": Stage(rloo),
    "opo": Stage(opo),
    "reinforce": Stage(reinforce, coupling="batch"),
    "reinforce_pp": Stage(reinforce_pp, coupling="batch"),
    "gpg": Stage(gpg, coupling="batch"),
    "best_of_group": Stage(best_of_group),
    "pass_at_k": Stage(pass_at_k, binary=True, bounds={"k": (1, WIDEST)}, least_group=lambda k: k),
    "maxrl": Stage(maxrl, binary=True),
    "raw": Stage(raw),
    "shortfall": Stage(shortfall),
    "sign": Stage(sign),
    "sign_beyond_prefix": Stage(sign_beyond_prefix, needs={"matched", "depth"}),
    "care": Stage(care),
    "ngrpo": Stage(ngrpo),
    "rl_zvp": Stage(rl_zvp, needs={"entropy"}),
    "a_grae": Stage(a_grae, binary=True, coupling="batch", bounds={"alpha": (1e-6, math.inf)}),
    "ha_dw": Stage(ha_dw, binary=True, start=ha_dw_start, carry=ha_dw_carry),
    "bgae": Stage(
        bgae, needs={"matched"}, binary=True, bounds={"k": (1, WIDEST)}, least_group=lambda k: k
    ),
    "rank_penalty": Stage(rank_penalty, needs={"beam_rank"}),
    "nemo_loo": Stage(nemo_loo),
    "reinforce_pp_baseline": Stage(reinforce_pp_baseline, coupling="batch"),
    "pkpo": Stage(pkpo, binary=True, bounds={"k": (1, WIDEST)}, least_group=lambda k: k + 1),
    "lens": Stage(lens, needs={"logp"}, binary=True),
    "sibling": Stage(sibling, needs={"codes"}),
    "step_aligned": Stage(step_aligned, needs={"matched", "depth"}),
    "gdpo": Stage(gdpo, needs={"matched", "depth"}, coupling="batch"),
    "spo": Stage(
        spo,
        needs={"prompt"},
        binary=True,
        bounds={"decay": (0, 1)},
        start=spo_start,
        carry=spo_carry,
    ),
}
