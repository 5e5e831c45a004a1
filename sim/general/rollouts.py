"""The rollout phase of one step: draw prompts, sample and judge groups, and any further rounds.

Shapes: R runs, B prompts, G rollouts, L codes. Every draw comes from a run's own stream, named by
the step and the round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.loss import Rows
from recast.sampling_rounds import asked_again, refills
from recast.signal import Signal
from recast.stage import MOST_ROUNDS
from recast.strategy import Strategy
from recast.structure import level_scores, matched_levels
from sim.decoding.beam import beam
from sim.decoding.sample import path_entropy, path_logp, sample, sample_each
from sim.policies.protocol import Params, Policy
from sim.seeds import minibatch, uniforms
from sim.settings import Training
from sim.worlds.world import World

_T = TypeVar("_T", "Batch", RolloutGroups, Rows, Signal)


@dataclass(frozen=True)
class Batch:
    """prompt `[R, B]` place in the training set; context `[R, B, D]`; target `[R, B]` item of the
    supervised term and of the anchor; targets `[R, B, M]` every item that is a hit, -1 = none."""

    prompt: Tensor
    context: Tensor
    target: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Rolled:
    """What a phase sampled. groups of `batch`, after every round; first: after the first one, of
    the prompts that were drawn first; rollouts `[R]`: sampled in all rounds."""

    batch: Batch
    groups: RolloutGroups
    first: RolloutGroups
    rollouts: Tensor


@dataclass(frozen=True)
class _Round:
    """The prompts of one round of sampling and their groups."""

    batch: Batch
    groups: RolloutGroups


@dataclass(frozen=True)
class Roller:
    """Where the rollouts of one step come from."""

    policy: Policy
    params: Params
    world: World
    strategy: Strategy
    seeds: tuple[int, ...]
    step: int
    how: Training

    def draw(self, name: str, counter: int) -> Batch:
        """The prompts of a step or of a further round of it, and their targets."""
        how, train = self.how, self.world.train
        prompt = minibatch(self.seeds, name, counter, how.batch, len(train))
        targets, target = train.all_targets[prompt], train.target[prompt]
        if targets.shape[-1] > 1 and self.strategy.anchor_choice != "first":
            # The anchor is drawn uniformly from a prompt's targets, by the run's own stream.
            known = targets >= 0
            draw = uniforms(self.seeds, "anchors", self.step, tuple(prompt.shape[1:]))
            place = (draw * known.sum(-1)).long().unsqueeze(-1)
            chosen = known & (known.cumsum(-1) == place + 1)
            chosen = chosen.to(torch.uint8).argmax(-1, keepdim=True)
            target = targets.gather(-1, chosen).squeeze(-1)
        dtype = next(iter(self.params.values())).dtype
        return Batch(prompt, train.context[prompt].to(dtype), target, targets)

    def roll(self, batch: Batch, keep: Tensor) -> Rolled:
        """Sample and judge the groups of a batch, and what its repair asks for beyond; keep
        `[R, B]` bool: prompts that are rolled out, the others' rollouts are invalid."""
        first, rounds = self.sampled(batch, keep), self.strategy.rounds
        if rounds is None:
            return Rolled(batch, first, first, first.valid.sum((-2, -1)))
        if rounds.kind == "refill":
            return self._refilled(batch, first)
        return self._asked_again(batch, first, hints=rounds.kind == "hint")

    def sampled(
        self,
        batch: Batch,
        keep: Tensor | None = None,
        number: int = 0,
        hint: Tensor | None = None,
    ) -> RolloutGroups:
        """One round: number names it; hint `[R, B]`: leading codes of the target that are given."""
        how, world, strategy = self.how, self.world, self.strategy
        policy, params, catalogue, dtype = (
            self.policy,
            self.params,
            world.catalogue,
            batch.context.dtype,
        )
        counter = self.step * MOST_ROUNDS + number if number else self.step
        name = "/refill" if number else ""
        width = strategy.sampled(how.group)
        encoded = policy.encode(params, batch.context)
        rank = None
        if how.rollouts == "beam":
            found, _ = beam(policy, params, catalogue, encoded, width)
            rank = torch.arange(width).expand_as(found)
        else:
            shape = (how.batch, width, catalogue.depth)
            draws = uniforms(self.seeds, f"rollouts{name}", counter, shape)
            options = (policy, params, catalogue, encoded, draws, how.temperature)
            found = (
                sample(*options)
                if hint is None
                else sample_each(*options, catalogue.codes[batch.target], hint)
            )
        # A catalogue smaller than the beam leaves places without an item.
        there, items = found >= 0, found.clamp(min=0)
        known = (batch.targets >= 0).unsqueeze(-2)
        wanted = batch.targets.clamp(min=0).unsqueeze(-2)
        agree = matched_levels(catalogue.codes[items].unsqueeze(-2), catalogue.codes[wanted])
        matched = agree.masked_fill(~known, 0).amax(-1).masked_fill(~there, 0)
        hinted = torch.zeros_like(items) if hint is None else hint.unsqueeze(-1).expand_as(items)
        return RolloutGroups(
            reward=(matched == catalogue.depth).to(dtype),
            score=level_scores(catalogue.depth, dtype)[matched],
            valid=there if keep is None else there & keep.unsqueeze(-1),
            origin=torch.full_like(items, int(Origin.POLICY), dtype=torch.int8),
            beam_rank=rank,
            tie_key=uniforms(self.seeds, f"ties{name}", counter, (how.batch, width)).to(dtype),
            entropy=self._if_needed("entropy", path_entropy, encoded, items),
            matched=matched,
            item=items,
            depth=catalogue.depth,
            binary=True,
            logp=self._if_needed("logp", path_logp, encoded, items),
            codes=catalogue.codes[items] if "codes" in strategy.needs else None,
            prompt=batch.prompt,
            hinted=hinted if strategy.hints else None,
        )

    def _if_needed(
        self, name: str, score: Callable[..., Tensor], encoded: Tensor, items: Tensor
    ) -> Tensor | None:
        if name not in self.strategy.needs:
            return None
        return score(self.policy, self.params, self.world.catalogue, encoded, items)

    def _refilled(self, batch: Batch, first: RolloutGroups) -> Rolled:
        """Further prompts in the place of groups that the repair marks, until B are kept.

        Groups that stay unfilled are invalid. A run stops paying once its batch is full.
        """

        def next_round(number: int) -> _Round:
            more = self.draw("prompts/refill", self.step * MOST_ROUNDS + number)
            return _Round(more, self.sampled(more, number=number))

        runs, prompts = batch.prompt.shape
        rollouts = torch.zeros(runs, dtype=torch.int64)
        kept, filled = _Round(batch, first), rollouts
        for one in refills(self.strategy.stage("repair"), kept, prompts, next_round):
            kept = _Round(
                _scatter(kept.batch, one.sampled.batch, one.slot),
                _scatter(kept.groups, one.sampled.groups, one.slot),
            )
            rollouts, filled = rollouts + one.rollouts, one.filled
        live = torch.arange(prompts) < filled.unsqueeze(-1)
        found = replace(kept.groups, valid=kept.groups.valid & live.unsqueeze(-1))
        return Rolled(kept.batch, found, first, rollouts)

    def _asked_again(self, batch: Batch, first: RolloutGroups, hints: bool) -> Rolled:
        """More rollouts for the prompts that the repair marks, in slots of their own; or, with
        hints, their groups sampled again behind the target's first codes."""

        def next_round(number: int, again: Tensor, wanted: Tensor) -> _Round:
            hint = wanted if hints else None
            return _Round(batch, self.sampled(batch, again, number, hint))

        def join(old: _Round, new: _Round, again: Tensor) -> _Round:
            def joined(one: Tensor, other: Tensor) -> Tensor:
                if not hints:
                    return torch.cat([one, other], 2)
                return torch.where(again.view(*again.shape, *[1] * (one.ndim - 2)), other, one)

            return _Round(batch, _joined(joined, old.groups, new.groups))

        repair = self.strategy.stage("repair")
        found, more = asked_again(repair, _Round(batch, first), next_round, join)
        return Rolled(batch, found.groups, first, first.valid.sum((-2, -1)) + more)


def _joined(
    join: Callable[[Tensor, Tensor], Tensor], one: RolloutGroups, other: RolloutGroups
) -> RolloutGroups:
    """Two rounds of the same prompts as one: every tensor of a rollout is joined."""
    found: dict[str, Any] = {
        f.name: join(old, getattr(other, f.name))
        for f in fields(one)
        if isinstance(old := getattr(one, f.name), Tensor) and old.ndim > 2
    }
    return replace(one, **found)


def _scatter(into: _T, new: _T, slot: Tensor) -> _T:
    """Write the prompts of `new` at `slot` `[R, B]` along axis 1; slot B is dropped."""
    changed: dict[str, Any] = {}
    for item in fields(into):
        old, value = getattr(into, item.name), getattr(new, item.name)
        if isinstance(old, Tensor):
            padded = torch.cat([old, old[:, :1]], 1)
            index = slot.view(*slot.shape, *[1] * (old.ndim - 2)).expand(value.shape)
            changed[item.name] = padded.scatter(1, index, value)[:, :-1]
    return replace(into, **changed)
