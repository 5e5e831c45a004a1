"""One prompt, 32 rollouts: the group of the home page, and the numbers its story tells.

`STORY` is one fixed group without a hit; every number comes from it, from the closed forms of the
paper's point, or from the strategies' own code.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recast.regimes import beta_regimes
from workbench.theory.group import sample_group, semantic_ids, tree_frames

WIDTH = 32
HIT, LEVELS = 1.0, 3
"""Reward and matched levels of a rollout that finds the target."""


def whole_tree(width: int = WIDTH) -> tuple[pl.DataFrame, int]:
    """A group of `width` misses and the first draw in which all of them are different items, so
    that each has a leaf of its own."""
    draw = 0
    while True:
        group = sample_group(width, 0.0, draw)
        target, items = semantic_ids(group, draw)
        if len({target, *items}) == width + 1:
            return group, draw
        draw += 1


GROUP, DRAW = whole_tree()


def leaves() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Nodes and edges of the tree, and rollout -> row: where each leaf stands."""
    nodes, edges = tree_frames(GROUP, DRAW)
    rows = nodes.filter(pl.col("label").str.starts_with("R")).select(
        rollout=pl.col("label").str.slice(1).cast(pl.Int64), row="row"
    )
    return nodes, edges, rows


def with_one_hit() -> pl.DataFrame:
    """The same group, had its nearest miss been a hit."""
    nearest = GROUP.sort("matched", "rollout", descending=[True, False])["rollout"][0]
    found = pl.col("rollout") == nearest
    return GROUP.with_columns(
        reward=pl.when(found).then(HIT).otherwise("reward"),
        matched=pl.when(found).then(LEVELS).otherwise("matched"),
    )


def all_zero_share(mean: float, cv: float) -> tuple[float, float]:
    """Share of groups of `WIDTH` without a hit, and the rollouts that one group costs which holds
    both hits and misses."""
    shares = beta_regimes(mean, cv, WIDTH)
    return shares["all_zero"], WIDTH / (shares["single_hit"] + shares["multi_hit"])


@dataclass(frozen=True)
class Pushed:
    """What a strategy makes of the group. bars: slot, weight, origin, row (of the leaf; the
    target's for a supervised one); pushed: slots with a weight; anchor: the rollout that gave up
    its slot, negative: the one that is pushed down most, None without one."""

    bars: pl.DataFrame
    pushed: int
    anchor: int | None
    negative: int | None


def pushes(name: str, group: pl.DataFrame = GROUP) -> Pushed:
    """The signal of a strategy on the group, laid beside the leaves of the tree."""
    from workbench.theory.microscope import signal_frames

    nodes, _, rows = leaves()
    bars, table, _ = signal_frames(group, [name], DRAW)
    at = {str(rollout): row for rollout, row in rows.iter_rows()}
    target = nodes.filter(pl.col("label").str.starts_with("target"))["row"][0]
    bars = bars.with_columns(
        row=pl.col("slot").replace_strict(at | {"target": target}, return_dtype=pl.Float64)
    )
    down = bars.filter(pl.col("weight") < 0).sort("weight")
    return Pushed(
        bars,
        bars.filter(pl.col("weight") != 0).height,
        table["anchor slot"][0],
        int(down["slot"][0]) if down.height else None,
    )


def pull_apart(first: str, second: str, low: float, high: float) -> float:
    """Largest relative difference of two strategies' w(p), each 1 at `low`, over [low, high]."""
    from workbench.theory.frames import weight_frame

    curves = weight_frame([first, second], low, WIDTH).filter(pl.col("p").is_between(low, high))
    one, two = (
        curves.filter(strategy=name).sort("p")["w_scaled"].to_numpy() for name in (first, second)
    )
    return float(abs(one / two - 1).max())
