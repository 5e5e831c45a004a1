"""What strategies make of one rollout group, as `workbench.theory.group` gives it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recast import STRATEGIES, Origin, RolloutGroups, Signal, Strategy, build_signal
from recast.stages.supervised import Evidence
from recast.structure import level_scores
from workbench.theory.group import DEPTH, WIDEST, ids_at


def groups_of(
    rewards: Sequence[Sequence[float]], levels: Sequence[Sequence[int]], draw: int
) -> RolloutGroups:
    """Groups that stand alone, `[M, 1, G]`, with every input that a strategy may ask for.

    rewards, levels: `[M][G]`, the rollouts' rewards and matched levels. What a group alone does not
    tell is drawn: ties, token entropies in nats; beams are taken in the order of the rollouts.
    """
    width = len(rewards[0])
    shape = (len(rewards), 1, width)
    places = []
    for one in levels:
        _, items = ids_at(one, draw)
        known = {item: place for place, item in enumerate(dict.fromkeys(items))}
        places.append([known[item] for item in items])
    rng = np.random.default_rng([draw, width, 1])
    ties = torch.tensor(rng.random((1, width)))
    entropy = torch.tensor(rng.uniform(0.5, 2.5, (1, width, DEPTH)))
    matched = torch.tensor(levels).view(shape)
    return RolloutGroups.of(
        torch.tensor(rewards, dtype=torch.float64).view(shape),
        score=level_scores(DEPTH, torch.float64)[matched],
        tie_key=ties.expand(shape),
        length=torch.full(shape, DEPTH),
        entropy=entropy.expand(*shape, DEPTH),
        beam_rank=torch.arange(width).expand(shape),
        matched=matched,
        item=torch.tensor(places).view(shape),
        depth=DEPTH,
    )


def supervised_weights(
    strategy: Strategy, hits: Tensor, valid: Tensor, rows: Tensor, probability: float
) -> tuple[Tensor, Tensor]:
    """Weight of grad log p that the supervised term gives the targets of groups that stand alone,
    `[M]`, and each of their slots, `[M, G]`.

    hits, valid: of each group as sampled, `[M, 1]`; rows: bool `[M, 1, G]`, what reaches the actor;
    probability: the target's, shared evenly by its levels; at the end of a schedule, and with a
    policy that still equals its reference.
    """
    share = math.log(min(max(probability, 1e-6), 1 - 1e-6)) / DEPTH
    groups = len(rows)
    target = torch.full((groups, 1, DEPTH), share, dtype=torch.float64, requires_grad=True)
    logp = torch.zeros(rows.shape, dtype=torch.float64, requires_grad=True)
    loss = strategy.stage("supervised")(
        Evidence(
            target_logp=target,
            target_ref_logp=target.detach(),
            hits=hits,
            valid=valid,
            rows_logp=logp,
            rows_ref_logp=logp.detach(),
            rows=rows,
        )
    ).sum()
    if not loss.requires_grad:
        return torch.zeros(groups, dtype=torch.float64), torch.zeros_like(logp)[:, 0]
    of_target, of_rows = torch.autograd.grad(loss, (target, logp), materialize_grads=True)
    return -of_target.mean((1, 2)), -of_rows[:, 0]


class Pushes(NamedTuple):
    """What a strategy makes of M groups. weights `[M, W]`: of grad log p per slot, W = G or one
    more where a repair appends: the advantage, averaged over tokens where tokens differ, plus what
    a supervised term adds; added `[M, W]`: that part alone; target `[M]`: the weight of a
    supervised target, None without one; anchors: bool `[M, W]`; signal: all of it."""

    weights: Tensor
    added: Tensor
    target: Tensor | None
    anchors: Tensor
    signal: Signal


def pushes_of(strategy: Strategy, groups: RolloutGroups, probability: float) -> Pushes:
    """The signal of groups that stand alone, `[M, 1, G]`.

    probability: of the target under the policy, for supervised terms that depend on it.
    Raises ValueError for groups that the strategy cannot work with.
    """
    signal = build_signal(strategy, groups)
    advantage = signal.advantage[:, 0]
    weights = (advantage.mean(-1) if advantage.ndim > 2 else advantage).to(torch.float64)
    added, target = torch.zeros_like(weights), None
    if signal.supervised:
        given = (signal.hits, signal.valid, signal.rows)
        target, added = supervised_weights(strategy, *given, probability)
    anchors = signal.groups.origin[:, 0] == int(Origin.ANCHOR)
    return Pushes(weights + added, added, target, anchors, signal)


def signal_frames(
    group: pl.DataFrame, names: Sequence[str], draw: int, probability: float = 0.05
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, str]]:
    """What strategies make of the group.

    probability: of the target under the policy, for supervised terms that depend on it.
    Returns bars (strategy, slot, place, weight, origin), a summary row per strategy, and one line
    per strategy that cannot work with this group. slot is the rollout's number, or `target` for a
    supervised target; weight multiplies grad log p of that slot: the advantage, averaged over
    tokens where tokens differ, plus what a supervised term adds; origin is policy, anchor or
    supervised.
    Raises ValueError for a blank cell.
    """
    if group["matched"].null_count() or group["reward"].null_count():
        raise ValueError("the group has a blank cell: give every rollout a reward and its levels")
    groups = groups_of([group["reward"].to_list()], [group["matched"].to_list()], draw)
    bars: list[dict[str, Any]] = []
    table: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for name in names:
        strategy = STRATEGIES[name]
        try:
            found = pushes_of(strategy, groups, probability)
        except ValueError as problem:
            refused[name] = str(problem)
            continue
        signal = found.signal
        rows = (signal.rows[0, 0].nonzero().flatten() + 1).tolist()
        anchors = (found.anchors[0].nonzero().flatten() + 1).tolist()
        added = found.added[0].tolist()
        for place, weight in enumerate(found.weights[0].tolist(), start=1):
            given = "supervised" if added[place - 1] else "policy"
            kind = "anchor" if place in anchors else given
            bars.append(_bar(name, str(place), place, weight, kind))
        if found.target is not None:
            bars.append(_bar(name, "target", 10 * WIDEST, float(found.target[0]), "supervised"))
        reaching = [str(row) for row in rows] + ["target"] * signal.supervised
        table.append(
            {
                "strategy": name,
                "anchor slot": anchors[0] if anchors else None,
                "rows reaching the actor": ", ".join(reaching) or "none",
                "update width": len(reaching),
                "signal count": int(signal.count[0, 0]),
                "what it does": strategy.meaning,
            }
        )
    return pl.DataFrame(bars, schema=_BARS), pl.DataFrame(table, schema=_TABLE), refused


def _bar(strategy: str, slot: str, place: int, weight: float, origin: str) -> dict[str, Any]:
    return dict(zip(_BARS, (strategy, slot, place, weight, origin), strict=True))


_BARS = {
    "strategy": pl.String,
    "slot": pl.String,
    "place": pl.Int64,
    "weight": pl.Float64,
    "origin": pl.String,
}
_TABLE = {
    "strategy": pl.String,
    "anchor slot": pl.Int64,
    "rows reaching the actor": pl.String,
    "update width": pl.Int64,
    "signal count": pl.Int64,
    "what it does": pl.String,
}
