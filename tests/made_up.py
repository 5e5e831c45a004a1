"""A made-up stage of every kind: what a later engineer adds, each one function and one row.

No other file knows these names. `added` puts them into the tables for one test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.stage import Rounds, Stage, State
from recast.stages.gate import Visit
from recast.stages.supervised import Evidence
from recast.stages.surrogate import Terms
from recast.strategy import STAGES


def resting(visit: Visit, state: State, visits: int = 2) -> Tensor:
    """A prompt is left alone at every `visits`-th visit."""
    seen = state["made_up_visits"].gather(-1, visit.prompt)
    return (seen + 1) % visits != 0


def resting_start(leading: tuple[int, ...], prompts: int) -> State:
    return {"made_up_visits": torch.zeros(*leading, prompts, dtype=torch.int64)}


def resting_carry(visit: Visit, groups: RolloutGroups, rolled_out: Tensor, state: State) -> State:
    seen = state["made_up_visits"]
    return {"made_up_visits": seen.scatter_add(-1, visit.prompt, torch.ones_like(visit.prompt))}


def soften(groups: RolloutGroups, share: float = 0.5) -> RolloutGroups:
    """A miss is worth a share of the codes that it matched."""
    assert groups.matched is not None
    near = share * groups.matched / groups.depth
    reward = torch.where(groups.hit, groups.reward, near.to(groups.reward.dtype))
    return replace(groups, reward=reward * groups.valid, hit_threshold=0.99, binary=False)


def newest(groups: RolloutGroups, factor: float = 2.0) -> RolloutGroups:
    """Of factor x G rollouts the last G stay."""
    width = groups.valid.shape[-1]
    slot = torch.arange(width, device=groups.valid.device)
    return replace(groups, valid=groups.valid & (slot >= width - round(width / factor)))


def no_hit(groups: RolloutGroups) -> Tensor:
    return ~groups.hit.any(-1)


def few_hits(groups: RolloutGroups, enough: int = 1) -> Tensor:
    return groups.hit.sum(-1) < enough


def balanced(groups: RolloutGroups, enough: int = 1, most: int = 4) -> RolloutGroups:
    """Of all rounds the first `most` rollouts stay, hits first."""
    order = torch.where(groups.hit, 0, 1) * groups.valid.shape[-1]
    order = order + torch.arange(groups.valid.shape[-1], device=order.device)
    place = order.masked_fill(~groups.valid, 10**6).argsort(-1).argsort(-1)
    return replace(groups, valid=groups.valid & (place < most))


def dead_end(groups: RolloutGroups, codes: int = 2) -> Tensor:
    """A group without hits is rolled out again behind the target's first codes."""
    return torch.where(groups.hit.any(-1), 0, codes)


def hinted(groups: RolloutGroups, codes: int = 2) -> RolloutGroups:
    return groups


def replay(groups: RolloutGroups, state: State) -> RolloutGroups:
    """A group without hits gets the last item that was a hit for its prompt, in its first slot."""
    assert groups.prompt is not None
    assert groups.item is not None
    item = state["made_up_last"].gather(-1, groups.prompt).unsqueeze(-1)
    where = (item >= 0) & ~groups.some_hit

    def first(tensor: Tensor, value: Any) -> Tensor:
        new = torch.where(where[..., 0], value, tensor[..., 0]).unsqueeze(-1)
        return torch.cat([new.to(tensor.dtype), tensor[..., 1:]], -1)

    return replace(
        groups,
        reward=first(groups.reward, 1.0),
        score=first(groups.score, 1.0),
        origin=first(groups.origin, int(Origin.REPLAY)),
        item=first(groups.item, item[..., 0]),
    )


def replay_start(leading: tuple[int, ...], prompts: int) -> State:
    return {"made_up_last": torch.full((*leading, prompts), -1)}


def replay_carry(groups: RolloutGroups, state: State) -> State:
    assert groups.prompt is not None
    assert groups.item is not None
    last = state["made_up_last"]
    found = groups.item.gather(-1, groups.hit.to(torch.uint8).argmax(-1, keepdim=True))[..., 0]
    kept = torch.where(groups.hit.any(-1), found, last.gather(-1, groups.prompt))
    return {"made_up_last": last.scatter(-1, groups.prompt, kept)}


def first_few(groups: RolloutGroups, m: int = 3) -> Tensor:
    return groups.valid & (groups.valid.cumsum(-1) <= m)


def sibling(groups: RolloutGroups, eps: float = 1e-6) -> Tensor:
    """Per level: the share of hits below a code against its siblings under the same prefix."""
    assert groups.codes is not None
    depth = groups.codes.shape[-1]
    reward = torch.where(groups.hit, 1.0, 0.0).to(groups.reward.dtype)
    together = (groups.valid.unsqueeze(-1) & groups.valid.unsqueeze(-2)).to(reward.dtype)
    values = []
    for level in range(depth):
        mean = (together * reward.unsqueeze(-2)).sum(-1) / together.sum(-1).clamp(min=1)
        square = (together * (reward.unsqueeze(-2) - mean.unsqueeze(-1)).square()).sum(-1)
        spread = (square / together.sum(-1).clamp(min=1)).sqrt()
        code = groups.codes[..., level]
        together = together * (code.unsqueeze(-1) == code.unsqueeze(-2))
        own = (together * reward.unsqueeze(-2)).sum(-1) / together.sum(-1).clamp(min=1)
        values.append((own - mean) / (spread + eps))
    return torch.stack(values, -1).masked_fill(~groups.valid.unsqueeze(-1), 0.0)


def tracked(groups: RolloutGroups, state: State, decay: float = 0.9) -> Tensor:
    """r minus the prompt's own tracked mean reward, before this visit."""
    assert groups.prompt is not None
    del decay
    hits, misses = (state[f"made_up_{n}"].gather(-1, groups.prompt) for n in ("a", "b"))
    value = (hits / (hits + misses)).unsqueeze(-1).to(groups.reward.dtype)
    return (groups.reward - value).masked_fill(~groups.valid, 0.0)


def tracked_start(leading: tuple[int, ...], prompts: int) -> State:
    one = torch.ones(*leading, prompts, dtype=torch.float64)
    return {"made_up_a": one, "made_up_b": one}


def tracked_carry(groups: RolloutGroups, state: State, decay: float) -> State:
    assert groups.prompt is not None
    new = {}
    for name, seen in (("made_up_a", groups.hit), ("made_up_b", groups.miss)):
        before = state[name].gather(-1, groups.prompt)
        new[name] = state[name].scatter(-1, groups.prompt, decay * before + seen.sum(-1))
    return new


def surprise(groups: RolloutGroups) -> Tensor:
    """A hit counts by how unlikely it was."""
    assert groups.logp is not None
    return torch.where(groups.hit, -groups.logp.sum(-1), 0.0)


def leading_k(groups: RolloutGroups, k: int = 2) -> Tensor:
    """+1 on a hit, -1 on the first k misses."""
    first = groups.miss & (groups.miss.cumsum(-1) <= k)
    return groups.hit.to(groups.reward.dtype) - first.to(groups.reward.dtype)


def focal(evidence: Evidence, gamma: float = 2.0) -> Tensor:
    logp = evidence.target_logp
    return -((1 - logp.detach().exp()) ** gamma * logp).sum(-1)


def cispo(terms: Terms) -> Tensor:
    """-sg(clip(ratio)) A log pi. Source: MiniMax-M1, arXiv 2506.13585."""
    clipped = terms.importance.clamp(1 - terms.clip_low, 1 + terms.clip_high)
    return -clipped.detach() * terms.advantage * terms.logp


def square_root(change: Tensor) -> Tensor:
    return change / 2


def half(terms: Terms, usual: Any) -> Tensor:
    return 0.5 * usual(terms)


ROWS: Mapping[str, Mapping[str, Stage]] = {
    "gate": {
        "made_up_resting": Stage(
            resting, bounds={"visits": (2, 9)}, start=resting_start, carry=resting_carry
        )
    },
    "repair": {
        "made_up_soften": Stage(soften, needs={"matched", "depth"}, bounds={"share": (0, 1)}),
        "made_up_newest": Stage(
            newest,
            bounds={"factor": (1, 8)},
            samples=lambda group, factor: round(group * factor),
            drops=True,
        ),
        "made_up_fill": Stage(lambda groups: groups, rounds=Rounds(no_hit, most=3), drops=True),
        "made_up_rounds": Stage(
            balanced,
            rounds=Rounds(few_hits, "more", most=4),
            width=lambda group, most: most,
            drops=True,
        ),
        "made_up_hint": Stage(
            hinted,
            needs={"target"},
            rounds=Rounds(dead_end, "hint", most=2),
            bounds={"codes": (1, 8)},
        ),
        "made_up_replay": Stage(
            replay,
            needs={"item", "prompt"},
            start=replay_start,
            carry=replay_carry,
            injects="slot",
        ),
    },
    "select": {
        "made_up_few": Stage(
            first_few,
            bounds={"m": (1, 64)},
            least_group=lambda m: m,
            width=lambda group, m: min(m, group),
        )
    },
    "credit": {
        "made_up_sibling": Stage(sibling, needs={"codes"}),
        "made_up_tracked": Stage(
            tracked,
            needs={"prompt"},
            binary=True,
            bounds={"decay": (0, 1)},
            start=tracked_start,
            carry=tracked_carry,
        ),
        "made_up_surprise": Stage(surprise, needs={"logp"}),
        "made_up_k": Stage(leading_k, bounds={"k": (1, 16)}, least_group=lambda k: k),
    },
    "supervised": {"made_up_focal": Stage(focal, needs={"target"}, by_code=True, note="made up")},
    "clip": {"made_up_cispo": Stage(cispo)},
    "ratio": {"made_up_root": Stage(square_root)},
    "anchor_ratio": {"made_up_half": Stage(half)},
}

TEXTS = (
    "gate=made_up_resting, credit=grpo",
    "repair=made_up_soften, credit=grpo",
    "repair=made_up_newest, credit=grpo",
    "repair=made_up_fill, credit=grpo",
    "repair=made_up_replay, credit=grpo",
    "repair=made_up_rounds, credit=grpo",
    "repair=made_up_hint(2), credit=grpo",
    "select=made_up_few(2), credit=grpo",
    "credit=made_up_sibling",
    "repair=anchor, select=pair, credit=made_up_sibling",
    "credit=made_up_tracked",
    "credit=made_up_surprise",
    "credit=made_up_k(2)",
    "credit=none, supervised=made_up_focal",
    "credit=grpo, supervised=made_up_focal",
    "credit=grpo, clip=made_up_cispo, ratio=made_up_root",
    "repair=append, credit=grpo, anchor_ratio=made_up_half",
)


def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put every made-up row into its table, until the test ends."""
    for kind, rows in ROWS.items():
        for name, stage in rows.items():
            monkeypatch.setitem(STAGES[kind], name, stage)  # type: ignore[arg-type]
