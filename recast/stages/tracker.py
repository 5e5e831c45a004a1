"""Credit against a value that is tracked per prompt, without a group.

Advantages are `[..., B, G]`; conventions as in `recast.stages.credit`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recast.groups import RolloutGroups
from recast.stage import State
from recast.stages.normalise import deviations, over, standard_deviation

PRIOR = 0.5
"""Hits and misses that each prompt is taken to have had before its first visit."""


def spo(groups: RolloutGroups, state: State, decay: float = 0.9, eps: float = 1e-8) -> Tensor:
    """r - a / (a + b), normalised over the batch's rollouts; a and b: the prompt's discounted hits
    and misses at earlier visits.

    No group is needed, and a group without hits is not silent: it is pushed down until its tracker
    has learnt that it is hard. Binary rewards. Raises ValueError without `prompt`.
    Source: SPO, arXiv 2509.13232; `spo_ray_trainer.py` of verl-recipe, with its rho constant.
    """
    del decay
    prompt = _prompt(groups)
    hits, misses = (state[name].gather(-1, prompt) for name in ("spo_hits", "spo_misses"))
    value = (hits / (hits + misses)).unsqueeze(-1).to(groups.reward.dtype)
    gap = (groups.reward - value) * groups.valid
    centred, largest, count = deviations(gap.flatten(-2), groups.valid.flatten(-2))
    spread = standard_deviation(centred, largest, count, 1).unsqueeze(-1)
    flat = torch.where(largest > 0, centred, 0.0).view(gap.shape)
    return over(flat, spread + eps)


def spo_start(leading: tuple[int, ...], prompts: int) -> State:
    """Half a hit and half a miss per prompt, `[..., P]` float64."""
    half = torch.full((*leading, prompts), PRIOR, dtype=torch.float64)
    return {"spo_hits": half, "spo_misses": half}


def spo_carry(groups: RolloutGroups, state: State, decay: float) -> State:
    """The counts of this visit's prompts, discounted by `decay`, plus what was sampled."""
    prompt, new = _prompt(groups), {}
    seen = groups.valid.any(-1)
    for name, found in (("spo_hits", groups.hit), ("spo_misses", groups.miss)):
        before = state[name].gather(-1, prompt)
        after = torch.where(seen, decay * before + found.sum(-1), before)
        new[name] = state[name].scatter(-1, prompt, after)
    return new


def _prompt(groups: RolloutGroups) -> Tensor:
    if groups.prompt is None:
        raise ValueError("credit=spo needs `prompt` in the groups")
    return groups.prompt
