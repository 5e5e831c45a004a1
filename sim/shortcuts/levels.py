"""Credit by level: when a signal asks where each miss leaves the target's path, and no more.

One uniform per rollout tells how far it follows the path. The signal is made from that by the
strategy itself, run by run, and only rollouts that carry weight are walked on.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.loss import LossSettings, pack, strategy_loss
from recast.stages.repair import anchored
from recast.strategy import Signal, Strategy, build_signal
from recast.structure import level_scores
from sim.seeds import stream
from sim.shortcuts.hits import random_groups
from sim.shortcuts.plan import Drawn, Plan, kl_terms, share_of
from sim.shortcuts.walk import Demand, Generators, Path


def depends_on_levels_alone(strategy: Strategy, group: int, depth: int) -> bool:
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


def levels_plan(
    strategy: Strategy, group: int, depth: int, loss: LossSettings, dtype: torch.dtype
) -> Plan:
    """For a strategy that `depends_on_levels_alone`."""
    scores = level_scores(depth, dtype)
    plain = replace(loss, kl_weight=0.0)
    policy_alone = replace(strategy, supervised="none") if strategy.has_credit else None

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

    def draw(path: Path, rngs: Generators, prompts: int) -> Drawn:
        found = [
            one(path.reach[a:b], rng)
            for rng, (a, b) in zip(rngs, pairwise(path.bounds), strict=True)
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
        share = share_of(strategy, rows, active, prompts, group, depth)
        demand = Demand(
            total[:, depth],
            count[:, :depth].numpy(),
            each[:, :depth],
            *kl_terms(loss, share, count[:, depth], path.logp),
        )
        return Drawn(demand, rows, active, repaired, hits)

    return Plan("levels", draw)
