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
from recast.lm.vocabulary import PromptTokens, Vocabulary
from recast.sampling_rounds import asked_again, refills
from recast.signal import Signal, build_signal
from recast.stage import MOST_ROUNDS, State
from recast.stages.gate import Visit
from recast.strategy import Strategy, missing_input
from recast.structure import level_scores, matched_levels

Search = Literal["sample", "beam"]
GIVEN = frozenset(
    {
        "target",
        "tie_key",
        "length",
        "matched",
        "item",
        "depth",
        "reference",
        "path",
        "score",
        "codes",
        "prompt",
    }
)
"""What this path can give to every strategy; sampling adds more, beams their rank."""


@dataclass(frozen=True)
class RolloutSource:
    """Where rollouts come from: the policy, its trie, the RL prompts and their targets `[n, L]`;
    similarity, more: as in `RLSetup`."""

    model: CausalLM
    vocabulary: Vocabulary
    trie: Trie
    prompts: PromptTokens
    target: Tensor
    batch: int
    group: int
    search: Search
    temperature: float
    seed: int
    similarity: Tensor | None = None
    more: Tensor | None = None

    def right(self, index: Tensor) -> Tensor:
        """Codes of every right item of some prompts, `[B, M, L]`; the first fills up."""
        first = self.target[index].unsqueeze(1)
        return first if self.more is None else torch.cat([first, self.more[index]], 1)

    def aim(self, index: Tensor, step: int) -> Tensor:
        """The target that repair and supervised terms take in this step, `[B, L]`: one of the right
        items, drawn anew in every step."""
        every = self.right(index)
        fresh = torch.ones(every.shape[:2], dtype=torch.bool, device=every.device)
        fresh[:, 1:] = (every[:, 1:] != every[:, :1]).any(-1)
        draw = uniforms(self.seed, "targets", step, (len(index),)).to(every.device)
        chosen = (draw * fresh.sum(-1)).long()
        # Right items stand first, what fills up after them.
        return every[torch.arange(len(every), device=every.device), chosen]

    def nearness(self, item: Tensor, matched: Tensor, target: Tensor) -> Tensor:
        """Scores in [0, 1] of items `[B, G]`: of the codes shared with the nearest target of
        `[B, M, L]`, or, with vectors of the items, (1 + cosine) / 2."""
        if self.similarity is None:
            return level_scores(self.trie.depth, device=matched.device)[matched]
        wanted = self.similarity[self.trie.walk(target)[2]]
        cosine = self.similarity[item.clamp(min=0)] @ wanted.transpose(-1, -2)
        return ((1 + cosine.amax(-1)) / 2).clamp(0, 1)


@dataclass(frozen=True)
class RolloutPhase:
    """One rollout phase. prompts and target `[B, L]` of the batch; signal and codes `[B, W, L]`
    (anchors written in), None without rollouts; rollouts sampled; prompts that were skipped; state
    for the next phase; right `[B, M, L]`: every right item, the first fills up."""

    prompts: PromptTokens
    target: Tensor
    signal: Signal | None = None
    codes: Tensor | None = None
    rollouts: int = 0
    skipped: int = 0
    state: State = field(default_factory=dict)
    right: Tensor | None = None


@dataclass(frozen=True)
class RolloutRound:
    """What was rolled out: index `[B]` of the prompts, their groups, codes `[B, G, L]`."""

    index: Tensor
    groups: RolloutGroups
    codes: Tensor


def given(search: Search) -> frozenset[str]:
    """Names of the inputs that rollouts of this kind come with, as in `Strategy.needs`."""
    return GIVEN | ({"beam_rank"} if search == "beam" else {"entropy", "logp"})


def why_not(strategy: Strategy, search: Search = "sample", group: int | None = None) -> str | None:
    """Why `recast lm rl` cannot train a strategy, in one line; None where it can."""
    if search == "beam" and strategy.samples_again:
        return f"repair={strategy.repair} samples its prompts again: --search sample"
    reason = missing_input(strategy, given(search), group)
    if reason and missing_input(strategy, given("beam")) is None:
        return f"{reason}: --search beam"
    return reason


def collect(roller: RolloutSource, strategy: Strategy, step: int, state: State) -> RolloutPhase:
    """Roll out, judge, repair and credit the prompts of one step."""
    total, device = len(roller.prompts), roller.target.device
    index = batch_indices(roller.seed, "prompts", step, roller.batch, total).to(device)
    skipped, visit = 0, None
    if strategy.needs_rollouts and strategy.has_gate:
        draw = uniforms(roller.seed, "gate", step, (roller.batch,)).to(device)
        visit = Visit(index, draw, step < total // roller.batch)
        keep = strategy.stage("gate")(visit, state=state)
        index, skipped = index[keep], int((~keep).sum())
        visit = replace(visit, prompt=index, draw=draw[keep])
    prompts, target = roller.prompts[index], roller.aim(index, step)
    if not strategy.needs_rollouts or not len(index):
        return RolloutPhase(prompts, target, skipped=skipped, state=state)
    first, rounds = roll_out(roller, strategy, index, step), strategy.rounds
    if rounds is None:
        found, rollouts = first, int(first.groups.valid.sum())
    elif rounds.kind == "refill":
        found, rollouts = _refilled(roller, strategy, step, first)
        prompts, target = roller.prompts[found.index], roller.aim(found.index, step)
    else:
        found, rollouts = _asked_again(roller, strategy, step, first)
    signal, codes = learn_from(strategy, found.groups, found.codes, target, state, roller.trie)
    state = signal.state
    if visit is not None:
        everyone = torch.ones_like(visit.prompt, dtype=torch.bool)
        gate = strategy.stage("gate")
        state = {**state, **gate.carry(visit, first.groups, everyone, state=state)}
    right = roller.right(found.index)
    return RolloutPhase(prompts, target, signal, codes, rollouts, skipped, state, right)


def learn_from(
    strategy: Strategy,
    groups: RolloutGroups,
    codes: Tensor,
    target: Tensor,
    state: State,
    trie: Trie,
) -> tuple[Signal, Tensor]:
    """The signal, and codes with those of what its repair injected `[B, W, L]`: item -1 stands for
    the target, any other injected item is one of the trie's."""
    signal = build_signal(strategy, groups, state)
    wanted = target.unsqueeze(1)
    if signal.rows.shape[-1] > codes.shape[1]:
        codes = torch.cat([codes, wanted], 1)
    injected = (signal.groups.origin != int(Origin.POLICY)).unsqueeze(-1)
    item = signal.groups.item
    if item is not None:
        known = (item >= 0).unsqueeze(-1)
        wanted = torch.where(known, trie.codes.to(item.device)[item.clamp(min=0)], wanted)
    return signal, torch.where(injected, wanted, codes)


def roll_out(
    roller: RolloutSource,
    strategy: Strategy,
    index: Tensor,
    step: int,
    refill: int = 0,
    hint: Tensor | None = None,
) -> RolloutRound:
    """Sample or search items for the prompts at `index` and judge them.

    The reward is 1 for a target's semantic ID; refill names a further round of the same step;
    hint `[B]`: leading codes of the target that are given.
    """
    roller.model.eval()
    trie, prompts, device = roller.trie, roller.prompts[index], roller.target.device
    shape = (len(index), strategy.sampled(roller.group))
    name, counter = ("/refill", step * MOST_ROUNDS + refill) if refill else ("", step)
    optional: dict[str, Any] = {}
    if roller.search == "beam":
        item, _ = beams(roller.model, roller.vocabulary, trie, prompts, shape[1])
        valid = item >= 0
        item = item.clamp(min=0)
        codes = trie.codes[item]
        optional["beam_rank"] = torch.arange(shape[1], device=device).expand(shape)
    else:
        draws = uniforms(roller.seed, f"rollouts{name}", counter, (*shape, trie.depth))
        rolled = sample(
            roller.model,
            roller.vocabulary,
            trie,
            prompts,
            draws,
            roller.temperature,
            roller.target[index],
            hint,
        )
        codes = rolled.codes
        item = trie.walk(codes)[2]
        valid = torch.ones(shape, dtype=torch.bool, device=codes.device)
        optional |= {"entropy": rolled.entropy, "logp": rolled.logp.clamp(max=0)}
    right = roller.right(index)
    matched = matched_levels(codes.unsqueeze(2), right.unsqueeze(1)).amax(-1)
    groups = RolloutGroups.of(
        (matched == trie.depth).float(),
        score=roller.nearness(item, matched, right),
        valid=valid,
        tie_key=uniforms(roller.seed, f"ties{name}", counter, shape).float().to(device),
        length=torch.full(shape, float(trie.depth), device=device),
        matched=matched,
        item=item,
        depth=trie.depth,
        codes=codes,
        prompt=index,
        **optional,
    )
    if strategy.hints:
        none = torch.zeros(shape, dtype=torch.int64, device=device)
        given_codes = none if hint is None else none + hint.unsqueeze(-1)
        groups = replace(groups, hinted=given_codes)
    return RolloutRound(index, groups, codes)


def take(signal: Signal, index: Tensor) -> Signal:
    """The signal of some prompts only; index int64 `[P]` along the axis of prompts."""
    return replace(
        signal,
        groups=_each(lambda t: t[index], signal.groups),
        sampled=_each(lambda t: t[index], signal.sampled),
        advantage=signal.advantage[index],
        rows=signal.rows[index],
    )


def _asked_again(
    roller: RolloutSource, strategy: Strategy, step: int, first: RolloutRound
) -> tuple[RolloutRound, int]:
    """Further rounds of the prompts that the repair marks: in further slots, or, behind a hint, in
    the place of what was sampled; how many rollouts in all."""
    index = first.index

    def next_round(number: int, again: Tensor, wanted: Tensor) -> RolloutRound:
        hint = wanted[again] if strategy.hints else None
        return roll_out(roller, strategy, index[again], step, number, hint)

    def join(old: RolloutRound, new: RolloutRound, again: Tensor) -> RolloutRound:
        def joined(one: Tensor, other: Tensor) -> Tensor:
            if one.ndim == 1:  # of the prompt, not of its rollouts
                return one
            if strategy.hints:
                return one.index_put((again,), other)
            space = other.new_zeros(len(again), *other.shape[1:])
            return torch.cat([one, space.index_put((again,), other)], 1)

        groups = _each(joined, old.groups, new.groups)
        if strategy.hints:
            return RolloutRound(index, groups, joined(old.codes, new.codes))
        # A slot that nothing was sampled into is scored as well, so it holds some item.
        spare = old.codes[:, :1].expand(-1, new.codes.shape[1], -1).contiguous()
        codes = torch.cat([old.codes, spare.index_put((again,), new.codes)], 1)
        return RolloutRound(index, groups, codes)

    found, more = asked_again(strategy.stage("repair"), first, next_round, join)
    return found, int(first.groups.valid.sum() + more)


def _refilled(
    roller: RolloutSource, strategy: Strategy, step: int, first: RolloutRound
) -> tuple[RolloutRound, int]:
    """Roll out further prompts in the place of groups that the repair marks, until the batch is
    full; how many rollouts in all.

    When no group at all can be kept, the first round comes back as it is.
    """
    total, device = len(roller.prompts), roller.target.device

    def next_round(number: int) -> RolloutRound:
        counter = step * MOST_ROUNDS + number
        index = batch_indices(roller.seed, "prompts/refill", counter, roller.batch, total)
        return roll_out(roller, strategy, index.to(device), step, number)

    kept: list[RolloutRound] = []
    rollouts = 0
    for one in refills(strategy.stage("repair"), first, roller.batch, next_round):
        rollouts += int(one.rollouts)
        usable = (one.slot < roller.batch).nonzero().squeeze(-1)
        if len(usable):
            kept.append(_taken(one.sampled, usable))
    if not kept:
        return first, rollouts
    found = RolloutRound(
        torch.cat([one.index for one in kept]),
        _each(lambda *parts: torch.cat(parts), *(one.groups for one in kept)),
        torch.cat([one.codes for one in kept]),
    )
    return found, rollouts


def _taken(found: RolloutRound, index: Tensor) -> RolloutRound:
    """Some prompts of what was rolled out; index int64 `[P]`."""
    groups = _each(lambda t: t[index], found.groups)
    return RolloutRound(found.index[index], groups, found.codes[index])


def _each(change: Callable[..., Tensor], *groups: RolloutGroups) -> RolloutGroups:
    """Apply a function to every tensor of one or several groups."""
    found: dict[str, Any] = {
        f.name: change(*(getattr(g, f.name) for g in groups))
        for f in fields(groups[0])
        if isinstance(getattr(groups[0], f.name), Tensor)
    }
    return replace(groups[0], **found)
