"""Pairs by seed: two strategies' values that saw the same world, start and prompts."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from workbench.stats.samples import Floats


@dataclass(frozen=True)
class Pairs:
    """Values of two strategies `[n]` by shared (stratum, seed). unpaired: runs without a twin."""

    first: Floats
    second: Floats
    strata: tuple[str, ...]
    unpaired: int
    seeds: tuple[int, ...] = ()


def pair_by_seed(
    frame: pl.DataFrame, metric: str, first: str, second: str, stratum: str = "cell"
) -> Pairs:
    """Pair two strategies' rows by stratum and seed.

    frame: one row per (strategy, stratum, seed), as after choosing the last evaluation. Rows
    without a finite value have no pair. Raises ValueError when a strategy has two rows for one
    seed or when nothing is shared.
    """
    keys = [stratum, "seed"]
    usable = frame.filter(pl.col(metric).cast(pl.Float64).is_finite())
    sides = [
        usable.filter(pl.col("strategy") == name).select(*keys, pl.col(metric).cast(pl.Float64))
        for name in (first, second)
    ]
    for name, side in zip((first, second), sides, strict=True):
        if side.select(keys).is_duplicated().any():
            raise ValueError(f"{name}: more than one row for the same {stratum} and seed")
    both = sides[0].join(sides[1], on=keys, suffix="_second").sort(keys)
    if both.is_empty():
        raise ValueError(f"{first} and {second}: no seed in common with a value of {metric}")
    return Pairs(
        both[metric].to_numpy(),
        both[f"{metric}_second"].to_numpy(),
        tuple(str(value) for value in both[stratum]),
        sides[0].height + sides[1].height - 2 * both.height,
        tuple(both["seed"].to_list()),
    )
