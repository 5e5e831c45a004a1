"""Which shortcut serves a strategy, decided from what the strategy declares and from probing it.

- `pair`: only the boundary pair learns, so whether there is a hit and where the hardest miss leaves
  the target's path is all that a group is; their joint law is closed. No cost grows with G.
- `hits`: every hit of a group, every miss and every anchor gets the credit that the number of hits
  dictates; credit is read from a table over 0..G hits, and groups without credit are not walked.
- `levels`: credit may look at the level at which each miss leaves as well; the signal is made from
  the drawn levels, run by run, and only rollouts with weight are walked.
- none of them: `plan_for` returns None and the general path of `sim.step` trains the strategy.

Shapes: R runs, B prompts, P = R B flat prompts, G rollouts, L levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.loss import LossSettings, pack, strategy_loss
from recast.repair import REPAIRS, anchored
from recast.selection import SELECTIONS
from recast.strategy import Signal, Strategy, build_signal
from recast.structure import level_scores
from recast.supervised import Evidence
from sim.lazy import Demand, Generators, Path, draw_misses
from sim.seeds import stream

OUTCOMES = frozenset({"target", "tie_key", "matched"})
"""Inputs that follow from where each rollout leaves the target's path."""


@dataclass(frozen=True)
class Drawn:
    """What a plan drew for each prompt, `[P]`: rows that reach the actor, active ones with an
    advantage, repaired groups; hits as sampled; and the demand that follows. The weights in demand
    are the policy loss alone, supervised terms excluded."""

    demand: Demand
    rows: Tensor
    active: Tensor
    repaired: Tensor
    hits: Tensor


Plan = Callable[[Path, Generators, int], Drawn]
"""(path, generators, B) -> what was drawn."""


def plan_for(
    strategy: Strategy, group: int, depth: int, loss: LossSettings, dtype: torch.dtype
) -> Plan | None:
    """The cheapest shortcut that is exact for the strategy, or None."""
    repair = strategy.stage("repair").stage
    if (
        strategy.gate != "none"
        or strategy.coupling == "state"
        or strategy.anchor_ratio != "one"
        or not strategy.needs <= OUTCOMES
        or repair in (REPAIRS["drop_constant"], REPAIRS["keep_distinct"])
    ):
        return None
    if not strategy.needs_rollouts:
        return _no_rollouts
    if strategy.credit == "none":
        loss = replace(loss, kl_weight=0.0)
    simple = repair in (REPAIRS["none"], REPAIRS["anchor"])
    if strategy.coupling == "group":
        if simple and strategy.stage("select").stage is SELECTIONS["pair"]:
            return _pair_plan(strategy, group, loss)
        if simple or repair is REPAIRS["append"]:
            table = hit_table(strategy, group, depth)
            if table is not None:
                return _hits_plan(strategy, group, depth, table, loss)
    if _depends_on_levels_alone(strategy, group, depth):
        return _levels_plan(strategy, group, depth, loss, dtype)
    return None


def _no_rollouts(path: Path, rngs: Generators, prompts: int) -> Drawn:
    del rngs, prompts
    none = torch.zeros(len(path.leave), dtype=torch.int64)
    count = np.zeros(path.leave.shape, dtype=np.int64)
    demand = Demand(torch.zeros_like(path.logp), count, torch.zeros_like(path.logp))
    return Drawn(demand, none, none, none.bool(), none)


def pair_law(path: Path, group: int) -> np.ndarray:
    """Joint law of (hit or not, level at which the hardest miss leaves); `[P, 2, L + 1]`.

    Index 0 / 1 of the second axis: no hit / some hit. The last axis counts levels from the
    shallowest, index 0: no miss at all. Source: all G rollouts are hits or leave at level m or
    before with probability (p + sum of leave up to m)^G, and the same without p.
    """
    p = path.reach[:, -1:]
    shallow = np.cumsum(np.concatenate([np.zeros_like(p), path.leave], axis=1), axis=1)
    total = p + shallow[:, -1:]
    with np.errstate(divide="ignore"):
        without, either = (
            np.exp(group * (np.log(x) - np.log(total))) for x in (shallow, p + shallow)
        )
    some = either - without
    law = np.stack([without, some], axis=1)
    return np.maximum(np.diff(law, axis=2, prepend=0.0), 0.0)


def _pair_plan(strategy: Strategy, group: int, loss: LossSettings) -> Plan:
    both = RolloutGroups.of(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    positive, negative = build_signal(replace(strategy, repair="none"), both).advantage[0].tolist()
    anchors = strategy.stage("repair").stage is REPAIRS["anchor"]
    fed = int(positive != 0) + int(negative != 0)
    sent = fed if strategy.update == "active" else 2

    def plan(path: Path, rngs: Generators, prompts: int) -> Drawn:
        depth = path.leave.shape[1]
        law = pair_law(path, group).reshape(-1, 2 * (depth + 1))
        point = np.concatenate([rng.random(prompts) for rng in rngs])[:, None] * law.sum(
            1, keepdims=True
        )
        cdf = np.cumsum(law, axis=1)
        cell = (point >= cdf[:, :-1]).sum(1)
        # Rounding must not choose what cannot happen.
        cell = np.where(law[np.arange(len(cell)), cell] > 0, cell, law.argmax(1))
        hit, hardest = cell > depth, cell % (depth + 1) - 1
        repaired = ~hit if anchors else np.zeros_like(hit)
        # At G = 1 the anchor takes the only slot, and no miss is left.
        usable = (hit | (repaired & (group > 1))) & (hardest >= 0)
        count = np.zeros((len(cell), depth), dtype=np.int64)
        count[usable, hardest[usable]] = 1
        pairs = torch.from_numpy(usable.astype(np.int64))
        share = _share(strategy, sent * pairs, fed * pairs, prompts, group, depth)
        like = path.logp
        demand = Demand(
            (-positive * share * pairs).to(like.dtype),
            count,
            (-negative * share).unsqueeze(-1).expand_as(like).to(like.dtype),
            *_kl(loss, share, pairs * int(sent == 2 or positive != 0), like),
        )
        return Drawn(
            demand,
            sent * pairs,
            fed * pairs,
            torch.from_numpy(repaired),
            torch.from_numpy(hit.astype(np.int64)),
        )

    return plan


@dataclass(frozen=True)
class HitTable:
    """Credit by number of hits 0..G. advantage `[G + 1, 3]` float64 and sent `[G + 1, 3]` bool
    (reaches the actor) of a hit, a miss, an anchor; anchors `[G + 1]`: whether there is one;
    displaces: it takes the slot of a miss."""

    advantage: Tensor
    sent: Tensor
    anchors: Tensor
    displaces: bool


@lru_cache(maxsize=64)
def hit_table(strategy: Strategy, group: int, depth: int) -> HitTable | None:
    """Read the credit of every number of hits from the strategy itself.

    None when rollouts of one group with the same outcome may differ in credit, or when credit
    changes with anything but the number of hits: seen on groups of every number of hits, with
    random scores, keys and slots, four times over.
    """
    found: list[HitTable] = []
    for trial in range(4):
        parts = []
        for start in range(0, group + 1, 64):
            hits = torch.arange(start, min(start + 64, group + 1))
            part = _probe(strategy, hits, group, depth, trial)
            if part is None:
                return None
            parts.append(part)
        table = HitTable(
            torch.cat([x.advantage for x in parts]),
            torch.cat([x.sent for x in parts]),
            torch.cat([x.anchors for x in parts]),
            parts[0].displaces,
        )
        if found and not (
            torch.allclose(table.advantage, found[0].advantage, rtol=1e-9, atol=1e-12)
            and torch.equal(table.sent, found[0].sent)
            and torch.equal(table.anchors, found[0].anchors)
        ):
            return None
        found.append(table)
    return found[0]


def random_groups(hits: Tensor, group: int, depth: int, trial: int) -> RolloutGroups:
    """Groups with the given numbers of hits, in random slots, with random misses and keys."""
    rng = stream(trial, "probe", int(hits[0]))
    slot = torch.from_numpy(rng.random((len(hits), group))).argsort(-1)
    matched = torch.from_numpy(rng.integers(0, depth, (len(hits), group)))
    matched = torch.where(slot < hits.unsqueeze(-1), depth, matched)
    return RolloutGroups.of(
        (matched == depth).double(),
        score=level_scores(depth, torch.float64)[matched],
        matched=matched,
        tie_key=torch.from_numpy(rng.random((len(hits), group))),
    )


def _probe(strategy: Strategy, hits: Tensor, group: int, depth: int, trial: int) -> HitTable | None:
    groups = random_groups(hits, group, depth, trial)
    signal = build_signal(strategy, groups)
    advantage, rows = signal.advantage, signal.rows
    if advantage.ndim != 2:
        return None
    anchor = signal.groups.origin == int(Origin.ANCHOR)
    own = torch.nn.functional.pad(groups.hit, (0, anchor.shape[1] - group))
    classes = (own & ~anchor, ~own & ~anchor, anchor)
    values: list[Tensor] = []
    sent: list[Tensor] = []
    for among in classes:
        for source, kept in ((advantage, values), (rows.double(), sent)):
            high = source.masked_fill(~among, -torch.inf).amax(-1)
            low = source.masked_fill(~among, torch.inf).amin(-1)
            if bool(((high != low) & among.any(-1)).any()):
                return None
            kept.append(torch.where(among.any(-1), high, 0.0))
    displaces = anchor.shape[1] == group
    return HitTable(torch.stack(values, -1), torch.stack(sent, -1) > 0, anchor.any(-1), displaces)


def _hits_plan(
    strategy: Strategy, group: int, depth: int, table: HitTable, loss: LossSettings
) -> Plan:
    worth = table.sent & (table.advantage != 0)
    walked = table.sent if loss.kl_weight else worth

    def plan(path: Path, rngs: Generators, prompts: int) -> Drawn:
        p = np.where(path.leave.sum(1) > 0, np.minimum(path.reach[:, -1], 1.0), 1.0)
        bounds = pairwise(path.rows[0].bounds)
        hits = np.concatenate(
            [rng.binomial(group, p[a:b]) for rng, (a, b) in zip(rngs, bounds, strict=True)]
        )
        k = torch.from_numpy(hits)
        misses = np.where(walked[k, 1].numpy(), group - hits, 0)
        count = draw_misses(rngs, path, misses)
        anchor = table.anchors[k]
        if table.displaces:
            # The anchor takes the slot of the least informative miss: one of the shallowest.
            taken = np.flatnonzero(anchor.numpy() & (misses > 0))
            count[taken, (count[taken] > 0).argmax(1)] -= 1
        others = torch.from_numpy(group - hits) - anchor * int(table.displaces)
        sizes = torch.stack([k, others, anchor.to(torch.int64)], -1)
        rows, active = (sizes * table.sent[k]).sum(-1), (sizes * worth[k]).sum(-1)
        share = _share(strategy, rows, active, prompts, group + int(not table.displaces), depth)
        advantage = table.advantage[k] * table.sent[k]
        like = path.logp
        demand = Demand(
            (-share * (sizes * advantage)[:, [0, 2]].sum(-1)).to(like.dtype),
            count,
            (-share * advantage[:, 1]).unsqueeze(-1).expand_as(like).to(like.dtype),
            *_kl(loss, share, (sizes * table.sent[k])[:, [0, 2]].sum(-1), like),
        )
        return Drawn(demand, rows, active, anchor, k)

    return plan


def _depends_on_levels_alone(strategy: Strategy, group: int, depth: int) -> bool:
    """Rollouts of a group that leave at the same level and reach the actor have equal credit."""
    for trial in range(4):
        rng = stream(trial, "probe/levels")
        hits = torch.from_numpy(rng.integers(0, group + 1, 64))
        groups = random_groups(hits, group, depth, trial)
        signal = build_signal(strategy, groups)
        if signal.advantage.ndim != 2 or signal.rows.shape[1] != group:
            return False
        kind = groups.matched
        assert kind is not None
        kind = kind.masked_fill(signal.groups.origin == int(Origin.ANCHOR), depth)
        for level in range(depth):
            among = (kind == level) & signal.rows & (signal.advantage != 0)
            high = signal.advantage.masked_fill(~among, -torch.inf).amax(-1)
            low = signal.advantage.masked_fill(~among, torch.inf).amin(-1)
            if bool(((high - low).abs() > 1e-9)[among.any(-1)].any()):
                return False
    return True


def _levels_plan(
    strategy: Strategy, group: int, depth: int, loss: LossSettings, dtype: torch.dtype
) -> Plan:
    scores = level_scores(depth, dtype)
    plain = replace(loss, kl_weight=0.0)
    policy_alone = replace(strategy, supervised="none") if strategy.credit != "none" else None

    def one(reach: np.ndarray, rng: np.random.Generator) -> tuple[Signal, Tensor, Tensor, Tensor]:
        u = torch.from_numpy(rng.random((1, len(reach), group)))
        matched = (u.unsqueeze(-1) < torch.from_numpy(reach[None, :, None, 1:])).sum(-1)
        groups = RolloutGroups(
            reward=(matched == depth).to(dtype),
            score=scores[matched],
            valid=torch.ones_like(u, dtype=torch.bool),
            origin=torch.full_like(u, int(Origin.POLICY), dtype=torch.int8),
            tie_key=torch.from_numpy(rng.random(u.shape)).to(dtype),
            matched=matched,
            binary=True,
        )
        signal = build_signal(strategy, groups)
        rows = pack(signal, strategy.width(group))
        kind = matched.masked_fill(signal.groups.origin == int(Origin.ANCHOR), depth)
        kind = kind.gather(-1, rows.index)
        weight = torch.zeros_like(rows.advantage)
        if policy_alone is not None:
            # Before the first step every ratio is 1, so log-probabilities of 0 stand for any.
            leaf = torch.zeros(*rows.index.shape, depth, dtype=dtype, requires_grad=True)
            settled = replace(signal, supervised=False)
            with torch.enable_grad():
                value = strategy_loss(
                    policy_alone,
                    settled,
                    rows,
                    length=depth,
                    settings=plain,
                    logp=leaf,
                    old_logp=leaf.detach(),
                )
                (slope,) = torch.autograd.grad(value.sum(), leaf)
            weight = slope[..., 0]
        return signal, kind, rows.active, weight

    def plan(path: Path, rngs: Generators, prompts: int) -> Drawn:
        found = [
            one(path.reach[a:b], rng)
            for rng, (a, b) in zip(rngs, pairwise(path.rows[0].bounds), strict=True)
        ]
        kind, sent, weight = (
            torch.cat(parts).flatten(0, 1) for parts in zip(*(f[1:] for f in found), strict=True)
        )
        sent = sent if loss.kl_weight else sent & (weight != 0)
        weight = weight.masked_fill(~sent, 0.0)
        size = depth + 1
        place = torch.arange(len(kind)).unsqueeze(-1) * size + kind
        count = torch.zeros(len(kind) * size, dtype=torch.int64)
        count.index_add_(0, place.view(-1), sent.view(-1).to(torch.int64))
        total = weight.new_zeros(len(kind) * size).index_add_(0, place.view(-1), weight.view(-1))
        count, total = count.view(-1, size), total.view(-1, size)
        each = total / count.clamp(min=1)
        signals = [f[0] for f in found]
        rows, active, repaired, hits = (
            torch.cat([part(s) for s in signals]).flatten(0, 1)
            for part in (
                lambda s: s.rows.sum(-1),
                lambda s: s.active.sum(-1),
                lambda s: anchored(s.groups),
                lambda s: s.hits,
            )
        )
        share = _share(strategy, rows, active, prompts, group, depth)
        demand = Demand(
            total[:, depth],
            count[:, :depth].numpy(),
            each[:, :depth],
            *_kl(loss, share, count[:, depth], path.logp),
        )
        return Drawn(demand, rows, active, repaired, hits)

    return plan


def _kl(
    loss: LossSettings, share: Tensor, hits: Tensor, like: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    if not loss.kl_weight:
        return None, None
    return (loss.kl_weight * share).to(like.dtype), hits.to(like.dtype)


def _share(
    strategy: Strategy, rows: Tensor, active: Tensor, prompts: int, width: int, depth: int
) -> Tensor:
    """What one rollout's loss is multiplied with: the policy's weight over the denominator;
    float64 `[P]`. rows, active `[P]`: rollouts of each group that reach the actor, and with credit.
    Equals `recast.loss.denominator` on groups of `width` valid rollouts.
    """
    by_run = (rows.view(-1, prompts), active.view(-1, prompts))
    rollouts = torch.full((len(by_run[0]),), prompts * width)
    divisor = {
        "rollouts": lambda: rollouts,
        "active": lambda: by_run[1].sum(-1).clamp(min=1),
        "tokens": lambda: (by_run[0].sum(-1) * depth).clamp(min=1),
        "prompts": lambda: torch.full_like(rollouts, prompts),
        "constant": lambda: rollouts * depth,
        "live_groups": lambda: rollouts * ((by_run[1] > 0).sum(-1).clamp(min=1) / prompts),
    }[strategy.denominator]()
    return (strategy.policy_weight / divisor.double()).repeat_interleave(prompts)


def supervise(
    strategy: Strategy, path: Path, hits: Tensor, group: int, prompts: int, progress: float
) -> Tensor:
    """Derivative of the supervised term by the log-probability of each code; `[P, L]`.

    Asked run by run: what a term computes may depend in its last bit on where a value lies.
    """
    slopes = []
    for logp, hit in zip(torch.split(path.logp, prompts), torch.split(hits, prompts), strict=True):
        leaf = logp.clone().unsqueeze(0).requires_grad_()
        valid = torch.full_like(hit, group).unsqueeze(0)
        evidence = Evidence(leaf, None, progress, hits=hit.clone().unsqueeze(0), valid=valid)
        with torch.enable_grad():
            value = strategy.stage("supervised")(evidence).mean(-1)
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        slopes.append(slope[0])
    return torch.cat(slopes)
