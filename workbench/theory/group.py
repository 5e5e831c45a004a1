"""One rollout group that can be drawn, written down and shown as a prefix tree; free of torch.

A group is a frame with one row per rollout: rollout (from 1), reward (above 0 is a hit), matched
(leading levels of the semantic ID that equal the target's, 0 to `DEPTH`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

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
    return ids_at(group["matched"].to_list(), draw)


def ids_at(levels: Sequence[int], draw: int) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """`semantic_ids` of rollouts that match the target in these levels."""
    rng = np.random.default_rng([draw, 7])
    target = tuple(int(code) for code in rng.integers(0, CODES, DEPTH))
    items = []
    for matched in levels:
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
        label = _named(rollouts.get(node, []))
        kind = "inner"
        if len(node) == DEPTH:
            near = shared(node) > 0
            kind = "hit" if node in hits else "near miss" if near else "miss"
            if node == target:
                kind = "hit" if node in hits else "target"
                label = f"target{': ' if label else ''}{label}"
                if replaced is not None:
                    label += f" (anchor, R{replaced}'s slot)"
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


def _named(places: Sequence[int]) -> str:
    """Rollouts by number; of many the first three, so that a label stays beside its leaf."""
    names = [f"R{place}" for place in places]
    return ", ".join(names if len(names) < 5 else [*names[:3], f"+{len(names) - 3}"])
