"""Hit first: when the number of hits dictates the credit of a whole group."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.signal import build_signal
from recast.strategy import Strategy
from recast.structure import level_scores
from sim.seeds import stream


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
    """Groups `[P, group]` with the given numbers of hits `[P]`, in random slots, with random misses
    and keys."""
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
