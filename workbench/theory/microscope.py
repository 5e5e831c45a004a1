"""One rollout group under the microscope: drawn or written down, as a tree, as learning signals.

A group is a frame with one row per rollout: rollout (from 1), reward (above 0 is a hit), matched
(leading levels of the semantic ID that equal the target's, 0 to `DEPTH`).
"""

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

DEPTH = 3
WIDEST = 64
CODES = 16
_MISS = {0: 0.6, 1: 0.3, 2: 0.1}


def sample_group(width: int, hit_probability: float, draw: int) -> pl.DataFrame:
    """A group of i.i.d. rollouts, the same for the same arguments.

    A miss matches 0, 1 or 2 levels with probability .6, .3 and .1.
    """
    rng = np.random.default_rng([draw, width])
    hit = rng.random(width) < hit_probability
    near = rng.choice(list(_MISS), size=width, p=list(_MISS.values()))
    return pl.DataFrame(
        {
            "rollout": np.arange(1, width + 1),
            "reward": hit.astype(np.float64),
            "matched": np.where(hit, DEPTH, near),
        }
    )


def write_group(group: pl.DataFrame) -> str:
    """The group as a short text, `reward*matched` per rollout: `0*1_0*0_1*3`."""
    pairs = zip(group["reward"], group["matched"], strict=True)
    return "_".join(f"{reward:g}*{matched}" for reward, matched in pairs)


def read_group(text: str) -> pl.DataFrame:
    """The group that `write_group` wrote.

    Raises ValueError, one line, for any other text, a reward that is not finite, a level outside
    0 to `DEPTH` or more than `WIDEST` rollouts.
    """
    parts = text.split("_")
    if len(parts) > WIDEST:
        raise ValueError(f"group: {len(parts)} rollouts, the page shows up to {WIDEST}")
    rewards, levels = [], []
    for place, part in enumerate(parts, start=1):
        reward, star, matched = part.partition("*")
        try:
            value, level = float(reward), int(matched)
        except ValueError:
            star, value, level = "", 0.0, 0
        if not star or not math.isfinite(value) or not 0 <= level <= DEPTH:
            raise ValueError(
                f"group: rollout {place} is {part[:20]!r}; expected reward*levels such as 0*1, "
                f"levels from 0 to {DEPTH}"
            )
        rewards.append(value)
        levels.append(level)
    return pl.DataFrame(
        {"rollout": range(1, len(parts) + 1), "reward": rewards, "matched": levels},
        schema={"rollout": pl.Int64, "reward": pl.Float64, "matched": pl.Int64},
    )


def semantic_ids(group: pl.DataFrame, draw: int) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """A target and one semantic ID per rollout that matches it in as many levels as asked."""
    rng = np.random.default_rng([draw, 7])
    target = tuple(int(code) for code in rng.integers(0, CODES, DEPTH))
    items = []
    for matched in group["matched"]:
        codes = list(target[:matched])
        if matched < DEPTH:
            other = int(rng.integers(0, CODES - 1))
            codes.append(other + (other >= target[matched]))
            codes += [int(code) for code in rng.integers(0, CODES, DEPTH - matched - 1)]
        items.append(tuple(codes))
    return target, items


def tree_frames(
    group: pl.DataFrame, draw: int, replaced: int | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The group as a prefix tree: its nodes and its edges, laid out from left to right.

    replaced: rollout whose slot the anchor takes, if any.
    Nodes: level 0 to `DEPTH`, row (0 at the top), code, kind, label. Edges: edge, level, row, path,
    two rows each. A leaf's kind is hit, near miss, miss or target; a leaf that several rollouts
    share names them all.
    """
    target, items = semantic_ids(group, draw)
    rollouts: dict[tuple[int, ...], list[int]] = {}
    hits: set[tuple[int, ...]] = set()
    for item, place, reward in zip(items, group["rollout"], group["reward"], strict=True):
        rollouts.setdefault(item, []).append(place)
        if reward > 0:
            hits.add(item)

    def shared(item: Sequence[int]) -> int:
        return next((i for i, (a, b) in enumerate(zip(item, target, strict=True)) if a != b), DEPTH)

    leaves = sorted({*rollouts, target}, key=lambda item: (-shared(item), item))
    rows: dict[tuple[int, ...], float] = {leaf: float(i) for i, leaf in enumerate(leaves)}
    for level in range(DEPTH - 1, -1, -1):
        for prefix in {leaf[:level] for leaf in leaves}:
            below = {leaf[: level + 1] for leaf in leaves if leaf[:level] == prefix}
            rows[prefix] = float(np.mean([rows[child] for child in below]))
    nodes: list[dict[str, Any]] = []
    for node, row in rows.items():
        label = ", ".join(f"R{place}" for place in rollouts.get(node, []))
        kind = "inner"
        if len(node) == DEPTH:
            near = shared(node) > 0
            kind = "hit" if node in hits else "near miss" if near else "miss"
            if node == target:
                kind = "hit" if node in hits else "target"
                label = f"target{': ' if label else ''}{label}"
                if replaced is not None:
                    label += f" (anchor, in the slot of R{replaced})"
        nodes.append(
            {
                "level": len(node),
                "row": row,
                "code": "-".join(map(str, node)) or "root",
                "kind": kind,
                "label": label,
            }
        )
    edges = [
        {
            "edge": "-".join(map(str, node)),
            "level": end,
            "row": rows[node[:end]],
            "path": "shared with the target" if node == target[: len(node)] else "other",
        }
        for node in rows
        if node
        for end in (len(node) - 1, len(node))
    ]
    return pl.DataFrame(nodes), pl.DataFrame(edges)


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
