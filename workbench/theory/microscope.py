"""What strategies make of one rollout group, as `workbench.theory.group` gives it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from recast import STRATEGIES, Origin, RolloutGroups, Signal, Strategy, build_signal
from recast.stages.supervised import Evidence
from recast.structure import level_scores
from workbench.theory.group import DEPTH, WIDEST, semantic_ids


def groups_of(group: pl.DataFrame, draw: int) -> RolloutGroups:
    """The group as one prompt, with every input that a strategy may ask for.

    What a group alone does not tell is drawn: ties, token entropies in nats; beams are taken in the
    order of the rollouts. Raises ValueError for a blank cell.
    """
    if group["matched"].null_count() or group["reward"].null_count():
        raise ValueError("the group has a blank cell: give every rollout a reward and its levels")
    levels = torch.tensor([group["matched"].cast(pl.Int64).to_list()])
    _, items = semantic_ids(group, draw)
    identities = {item: place for place, item in enumerate(dict.fromkeys(items))}
    rng = np.random.default_rng([draw, group.height, 1])
    return RolloutGroups.of(
        torch.tensor([group["reward"].cast(pl.Float64).to_list()], dtype=torch.float64),
        score=level_scores(DEPTH, torch.float64)[levels],
        tie_key=torch.tensor(rng.random((1, group.height))),
        length=torch.full((1, group.height), DEPTH),
        entropy=torch.tensor(rng.uniform(0.5, 2.5, (1, group.height, DEPTH))),
        beam_rank=torch.arange(group.height).unsqueeze(0),
        matched=levels,
        item=torch.tensor([[identities[item] for item in items]]),
        depth=DEPTH,
    )


def supervised_weights(
    strategy: Strategy, signal: Signal, probability: float
) -> tuple[float, list[float]]:
    """Weight of grad log p that the supervised term gives the target, and each slot of the group.

    probability: the target's, shared evenly by its levels; at the end of a schedule, and with a
    policy that still equals its reference.
    """
    share = math.log(min(max(probability, 1e-6), 1 - 1e-6)) / DEPTH
    target = torch.full((1, DEPTH), share, dtype=torch.float64, requires_grad=True)
    rows = torch.zeros(signal.rows.shape, dtype=torch.float64, requires_grad=True)
    loss = strategy.stage("supervised")(
        Evidence(
            target_logp=target,
            target_ref_logp=target.detach(),
            hits=signal.hits,
            valid=signal.valid,
            rows_logp=rows,
            rows_ref_logp=rows.detach(),
            rows=signal.rows,
        )
    ).sum()
    if not loss.requires_grad:
        return 0.0, [0.0] * signal.rows.shape[-1]
    of_target, of_rows = torch.autograd.grad(loss, (target, rows), allow_unused=True)
    slots = torch.zeros_like(rows) if of_rows is None else -of_rows
    return -float(of_target.mean()) if of_target is not None else 0.0, slots[0].tolist()


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
    groups = groups_of(group, draw)
    bars: list[dict[str, Any]] = []
    table: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for name in names:
        strategy = STRATEGIES[name]
        try:
            signal = build_signal(strategy, groups)
        except ValueError as problem:
            refused[name] = str(problem)
            continue
        advantage = signal.advantage[0]
        weights = (advantage.mean(-1) if advantage.ndim > 1 else advantage).tolist()
        rows = (signal.rows[0].nonzero().flatten() + 1).tolist()
        target, extra = 0.0, [0.0] * len(weights)
        if signal.supervised:
            target, extra = supervised_weights(strategy, signal, probability)
        origin = signal.groups.origin[0].tolist()
        anchors = [place + 1 for place, kind in enumerate(origin) if kind == int(Origin.ANCHOR)]
        for place, (weight, added) in enumerate(zip(weights, extra, strict=True), start=1):
            kind = "anchor" if place in anchors else "supervised" if added else "policy"
            bars.append(_bar(name, str(place), place, weight + added, kind))
        if signal.supervised:
            bars.append(_bar(name, "target", 10 * WIDEST, target, "supervised"))
        reaching = [str(row) for row in rows] + ["target"] * signal.supervised
        table.append(
            {
                "strategy": name,
                "anchor slot": anchors[0] if anchors else None,
                "rows reaching the actor": ", ".join(reaching) or "none",
                "update width": len(reaching),
                "signal count": int(signal.count[0]),
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
