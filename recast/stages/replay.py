"""The repair that replays hits of earlier steps.

Shapes and conventions as in `recast.stages.repair`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups, first_best
from recast.stage import State


def replay(groups: RolloutGroups, state: State) -> RolloutGroups:
    """A group without hits gets the last hit of its prompt, in the place of a miss.

    The miss is the one with the smallest `tie_key`, or the first. The replayed row's `logp` is that
    of the policy that sampled it, so that the loss corrects for what has changed since; per code
    its mean, which a ratio per sequence sums up exactly. No label is needed. Raises ValueError
    without `item`, `prompt` and `logp`.
    Source: in kind ExGRPO, arXiv 2510.02245, and TRL's GRPO with a replay buffer; which hit is
    replayed, and where, is this project's choice.
    """
    item, prompt, logp = _given(groups)
    last = state["replay_item"].gather(-1, prompt).unsqueeze(-1)
    then = state["replay_logp"].gather(-1, prompt)[..., None, None].to(logp.dtype) / logp.shape[-1]
    place = first_best(torch.zeros_like(groups.reward), groups.valid, groups.tie_key)
    slot = place & (last >= 0) & ~groups.some_hit
    matched, codes = groups.matched, groups.codes
    every = None if matched is None else torch.full_like(matched, groups.depth or logp.shape[-1])
    return replace(
        groups,
        reward=groups.reward.masked_fill(slot, 1.0),
        score=groups.score.masked_fill(slot, 1.0),
        origin=groups.origin.masked_fill(slot, int(Origin.REPLAY)),
        matched=None if matched is None or every is None else torch.where(slot, every, matched),
        item=torch.where(slot, last, item),
        logp=torch.where(slot.unsqueeze(-1), then, logp),
        codes=None if codes is None else codes.masked_fill(slot.unsqueeze(-1), -1),
    )


def replay_start(leading: tuple[int, ...], prompts: int) -> State:
    """No prompt has had a hit: item -1, `[..., P]` int64, and its log-probability, float64."""
    none = torch.full((*leading, prompts), -1, dtype=torch.int64)
    return {"replay_item": none, "replay_logp": none.to(torch.float64)}


def replay_carry(groups: RolloutGroups, state: State) -> State:
    """The first hit of each group as sampled, and its log-probability in nats; else no change."""
    item, prompt, logp = _given(groups)
    first, found = groups.hit.to(torch.uint8).argmax(-1, keepdim=True), groups.hit.any(-1)
    new = {}
    for name, value in (("replay_item", item), ("replay_logp", logp.sum(-1))):
        before = state[name].gather(-1, prompt)
        own = value.gather(-1, first).squeeze(-1).to(before.dtype)
        new[name] = state[name].scatter(-1, prompt, torch.where(found, own, before))
    return new


def _given(groups: RolloutGroups) -> tuple[Tensor, Tensor, Tensor]:
    if groups.item is None or groups.prompt is None or groups.logp is None:
        raise ValueError("repair=replay needs `item`, `prompt` and `logp` in the groups")
    return groups.item, groups.prompt, groups.logp
