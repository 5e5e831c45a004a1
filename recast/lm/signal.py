"""From prompts to a learning signal on a real model.

Order: gate, roll out, judge, repair (the ground truth's codes go into an anchored slot), select,
credit. No log-probability is computed before the signal stands, and none for an idle row.
Shapes: B prompts, G rollouts, L codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.lm.decode import beams, sample
from recast.lm.prefix import CausalLM
from recast.lm.seeds import batch_indices, uniforms
from recast.lm.trie import Trie
from recast.lm.vocabulary import Prompts, Vocabulary
from recast.stages.gate import Visit, after
from recast.stages.repair import REPAIRS
from recast.strategy import Signal, State, Strategy, build_signal
from recast.structure import level_scores, matched_levels

Search = Literal["sample", "beam"]
REFILLS = 10
"""Rounds of further prompts that dynamic sampling may roll out before it gives up filling."""

GIVEN = frozenset({"target", "tie_key", "length", "matched", "item", "depth", "reference"})
"""What this path can give to every strategy; sampling adds entropy, beams their rank."""


@dataclass(frozen=True)
class Roller:
    """Where rollouts come from: the policy, its trie, the RL prompts and their targets `[n, L]`."""

    model: CausalLM
    vocabulary: Vocabulary
    trie: Trie
    prompts: Prompts
    target: Tensor
    batch: int
    group: int
    search: Search
    temperature: float
    seed: int


@dataclass(frozen=True)
class Collected:
    """One rollout phase. prompts and target `[B, L]` of the batch; signal and codes `[B, W, L]`
    (anchors written in), None without rollouts; rollouts sampled; prompts that were skipped; state
    for the next phase."""

    prompts: Prompts
    target: Tensor
    signal: Signal | None = None
    codes: Tensor | None = None
    rollouts: int = 0
    skipped: int = 0
    state: State = field(default_factory=dict)


def given(search: Search) -> frozenset[str]:
    """Names of the inputs that rollouts of this kind come with, as in `Strategy.needs`."""
    return GIVEN | {"beam_rank" if search == "beam" else "entropy"}


def collect(roller: Roller, strategy: Strategy, step: int, state: State) -> Collected:
    """Roll out, judge, repair and credit the prompts of one step."""
    total, device = len(roller.prompts), roller.target.device
    index = batch_indices(roller.seed, "prompts", step, roller.batch, total).to(device)
    skipped, visit = 0, None
    if strategy.needs_rollouts and strategy.gate != "none":
        draw = uniforms(roller.seed, "gate", step, (roller.batch,)).to(device)
        visit = Visit(index, draw, step < total // roller.batch)
        keep = strategy.stage("gate")(visit, state)
        index, skipped = index[keep], int((~keep).sum())
        visit = replace(visit, prompt=index, draw=draw[keep])
    prompts, target = roller.prompts[index], roller.target[index]
    if not strategy.needs_rollouts or not len(index):
        return Collected(prompts, target, skipped=skipped, state=state)
    if strategy.stage("repair").stage is REPAIRS["drop_constant"]:
        index, groups, codes, rollouts = _refilled(roller, strategy, step, index)
        prompts, target = roller.prompts[index], roller.target[index]
    else:
        groups, codes = roll_out(roller, strategy, index, step)
        rollouts = int(groups.valid.sum())
    signal, codes = learn_from(strategy, groups, codes, target, state)
    state = signal.state
    if visit is not None:
        state = after(visit, state, groups, torch.ones_like(index, dtype=torch.bool))
    return Collected(prompts, target, signal, codes, rollouts, skipped, state)


def learn_from(
    strategy: Strategy, groups: RolloutGroups, codes: Tensor, target: Tensor, state: State
) -> tuple[Signal, Tensor]:
    """The signal, and codes with the target's in every repaired or appended slot `[B, W, L]`."""
    signal = build_signal(strategy, groups, state)
    wanted = target.unsqueeze(1)
    if signal.rows.shape[-1] > codes.shape[1]:
        codes = torch.cat([codes, wanted], 1)
    anchor = (signal.groups.origin == int(Origin.ANCHOR)).unsqueeze(-1)
    return signal, torch.where(anchor, wanted, codes)


def roll_out(
    roller: Roller, strategy: Strategy, index: Tensor, step: int, refill: int = 0
) -> tuple[RolloutGroups, Tensor]:
    """Sample or search items for the prompts at `index` and judge them; groups, codes `[B, G, L]`.

    The reward is 1 for the target's semantic ID; refill names a further round of the same step.
    """
    roller.model.eval()
    trie, prompts, device = roller.trie, roller.prompts[index], roller.target.device
    shape = (len(index), strategy.sampled(roller.group))
    name, counter = ("/refill", step * REFILLS + refill) if refill else ("", step)
    optional: dict[str, Any] = {}
    if roller.search == "beam":
        item, _ = beams(roller.model, roller.vocabulary, trie, prompts, shape[1])
        valid = item >= 0
        item = item.clamp(min=0)
        codes = trie.codes[item]
        optional["beam_rank"] = torch.arange(shape[1], device=device).expand(shape)
    else:
        draws = uniforms(roller.seed, f"rollouts{name}", counter, (*shape, trie.depth))
        rolled = sample(roller.model, roller.vocabulary, trie, prompts, draws, roller.temperature)
        codes = rolled.codes
        item = trie.walk(codes)[2]
        valid = torch.ones(shape, dtype=torch.bool, device=codes.device)
        optional["entropy"] = rolled.entropy
    matched = matched_levels(codes, roller.target[index].unsqueeze(1))
    groups = RolloutGroups.of(
        (matched == trie.depth).float(),
        score=level_scores(trie.depth, device=device)[matched],
        valid=valid,
        tie_key=uniforms(roller.seed, f"ties{name}", counter, shape).float().to(device),
        length=torch.full(shape, float(trie.depth), device=device),
        matched=matched,
        item=item,
        depth=trie.depth,
        **optional,
    )
    return groups, codes


def take(signal: Signal, index: Tensor) -> Signal:
    """The signal of some prompts only; index int64 `[P]` along the axis of prompts."""
    return replace(
        signal,
        groups=_each(lambda t: t[index], signal.groups),
        sampled=_each(lambda t: t[index], signal.sampled),
        advantage=signal.advantage[index],
        rows=signal.rows[index],
    )


def _refilled(
    roller: Roller, strategy: Strategy, step: int, index: Tensor
) -> tuple[Tensor, RolloutGroups, Tensor, int]:
    """Dynamic sampling: roll out further prompts until B groups vary, `REFILLS` rounds at most.

    Without any varied group the first batch comes back as it is, and its repair drops it.
    """
    kept: list[tuple[Tensor, RolloutGroups, Tensor]] = []
    rollouts = filled = 0
    first = None
    for refill in range(REFILLS):
        if refill:
            counter = step * REFILLS + refill
            index = batch_indices(
                roller.seed, "prompts/refill", counter, roller.batch, len(roller.prompts)
            ).to(roller.target.device)
        groups, codes = roll_out(roller, strategy, index, step, refill)
        rollouts += int(groups.valid.sum())
        first = first or (index, groups, codes)
        varied = (groups.hit.any(-1) & groups.miss.any(-1)).nonzero().squeeze(-1)
        varied = varied[: roller.batch - filled]
        filled += len(varied)
        if len(varied):
            kept.append((index[varied], _each(lambda t, v=varied: t[v], groups), codes[varied]))
        if filled == roller.batch:
            break
    assert first is not None
    if not kept:
        return (*first, rollouts)
    joined = _each(lambda *parts: torch.cat(parts), *(groups for _, groups, _ in kept))
    return (
        torch.cat([place for place, _, _ in kept]),
        joined,
        torch.cat([codes for _, _, codes in kept]),
        rollouts,
    )


def _each(change: Callable[..., Tensor], *groups: RolloutGroups) -> RolloutGroups:
    """Apply a function to every tensor of one or several groups."""
    found: dict[str, Any] = {
        f.name: change(*(getattr(g, f.name) for g in groups))
        for f in fields(groups[0])
        if isinstance(getattr(groups[0], f.name), Tensor)
    }
    return replace(groups[0], **found)
