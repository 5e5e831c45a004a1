"""Which columns a trainer added up to its reward, and with which weights: solved from advantages.

Trainers log each reward function and each rollout's advantage, but not the weights. Inside a group
the advantage is the centred reward, divided by the group's standard deviation (GRPO), by the
batch's, or by nothing; so the weights follow from the columns, up to one common factor where it is
divided. Columns that the reward functions only wrote down get weight 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from workbench.diagnosis.logs.layout import REWARD

MOST_GROUPS = 4096
FITS = 0.98
"""Share of the advantages' variance that weights must explain to be believed."""

EPSILON = 1e-4
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """of: weight of each column, the largest 1 where the advantages say nothing about the scale;
    columns that never differ inside a group are not in it (nothing can be said of them). scale:
    "group", "batch" or "none", what centred rewards were divided by; "each" where every column was
    divided by its own deviation in each group before they were added (TRL's normalize_then_sum).
    explained: share of the variance of the advantages; gives: share of the groups whose advantages
    come out."""

    of: dict[str, float]
    scale: str
    explained: float
    gives: float = 0.0


def solve(rollouts: pl.DataFrame, columns: list[str]) -> Weights | None:
    """Weights of `REWARD` columns by name; None where advantages are not logged, or none fit.

    rollouts: with key, step, advantage and the columns; null is an abstaining function, 0.
    """
    frame = rollouts.drop_nulls("advantage")
    sizes = frame.group_by("key").agg(
        size=pl.len(), moves=pl.col("advantage").max() - pl.col("advantage").min()
    )
    if sizes.filter((pl.col("size") > 1) & (pl.col("moves") > 1e-6)).height < 3 or not columns:
        return None
    # Whole steps: the batch's standard deviation counts every group.
    steps = frame["step"].unique().sort()
    kept = steps.gather_every(max(1, -(-sizes.height // MOST_GROUPS)))
    frame = frame.filter(pl.col("step").is_in(kept.to_list()))
    names = [REWARD + name for name in columns]
    raw = frame.select(pl.col(c).fill_null(0.0) for c in names).to_numpy()
    centred = frame.select(
        (pl.col(c).fill_null(0.0) - pl.col(c).fill_null(0.0).mean().over("key")).alias(c)
        for c in names
    ).to_numpy()
    spread = centred.std(0)
    moving = [place for place, one in enumerate(spread) if one > 1e-9]
    if not moving:
        return None
    features = centred[:, moving] / spread[moving]
    advantage = frame["advantage"].to_numpy().astype(float)
    group = frame["key"].rank("dense").to_numpy().astype(np.int64) - 1
    batch = frame["step"].rank("dense").to_numpy().astype(np.int64) - 1
    unit = spread[moving]
    whole = raw[:, moving] / unit
    ways: list[tuple[Floats, Floats, Floats, Any, str]] = [
        (features, whole, unit, None, "none"),
        (features, whole, unit, group, "group"),
        (features, whole, unit, batch, "batch"),
    ]
    if len(moving) > 1:
        alone = _each(centred[:, moving], group)
        ways.append((alone, alone, np.ones(len(moving)), batch, "each"))
    found = [(_fit(x, w, u, advantage, divisor), u, name) for x, w, u, divisor, name in ways]
    # The simpler way wins unless another explains more.
    (fitted, explained, said), unit, scale = max(
        found, key=lambda one: one[0][1] - 1e-6 * (one[2] != "none") - 1e-6 * (one[2] == "each")
    )
    if not explained >= FITS:
        return None
    weights = fitted / unit
    part = np.abs(fitted) / np.abs(fitted).max()
    weights[part < 0.01] = 0.0
    if scale != "none":
        weights = weights / np.abs(weights).max()
    of = {columns[place]: _round(float(w)) for place, w in zip(moving, weights, strict=True)}
    return Weights(of, scale, float(explained), _given(advantage, said, group))


def _each(centred: Floats, group: Any) -> Floats:
    """Centred columns, each divided by its deviation in each group."""
    count = np.bincount(group).astype(float)
    columns = [column / _scale(column, group, count)[group] for column in centred.T]
    return np.asarray(np.stack(columns, 1), np.float64)


def _given(advantage: Floats, said: Floats, group: Any) -> float:
    """Share of the groups whose advantages are said to two in a thousand."""
    size = int(group.max()) + 1
    gap, top = np.zeros(size), np.zeros(size)
    np.maximum.at(gap, group, np.abs(advantage - said))
    np.maximum.at(top, group, np.abs(advantage))
    return float((gap <= 2e-3 * np.maximum(top, 1e-2)).mean())


def _fit(
    features: Floats, whole: Floats, unit: Floats, advantage: Floats, divisor: Any
) -> tuple[Floats, float, Floats]:
    """Weights of the features, how much of the advantages they explain once the weighted sum is
    divided by its standard deviation in each group or batch, and what they say.

    whole: the features before their group's mean was taken off; unit: what they were divided by.
    The scale is that at which the largest weight of a column is 1, so that epsilon counts as it
    did.
    """
    weights: Floats = np.asarray(np.linalg.lstsq(features, advantage, rcond=None)[0], np.float64)
    if divisor is None:
        said = features @ weights
        return weights, _explained(advantage, said), said
    count = np.bincount(divisor).astype(float)
    for _ in range(60):
        scale = _scale(whole @ weights, divisor, count)
        found = np.linalg.lstsq(features, advantage * scale[divisor], rcond=None)[0]
        new: Floats = np.asarray(found, np.float64)
        size = np.abs(new / unit).max()
        if size <= 0:
            break
        new = new / size
        done = np.abs(new - weights).max() < 1e-10 * np.abs(new).max()
        weights = new
        if done:
            break
    weights = _refined(weights, features, whole, unit, advantage, divisor, count)
    scale = _scale(whole @ weights, divisor, count)
    said = features @ weights / scale[divisor]
    return weights, _explained(advantage, said), said


def _refined(
    weights: Floats,
    features: Floats,
    whole: Floats,
    unit: Floats,
    advantage: Floats,
    divisor: Any,
    count: Floats,
) -> Floats:
    """The weights by Newton's way, the largest held at 1: where few groups say something about a
    weight, the fixed point is approached slowly."""
    held = int(np.argmax(np.abs(weights / unit)))
    free = np.arange(len(weights)) != held
    if not free.any() or not weights[held]:
        return weights

    # Loaded by those logs alone that need it: a second of processor time.
    from scipy.optimize import least_squares

    def left(values: Floats) -> Floats:
        new = weights.copy()
        new[free] = values
        found = features @ new / _scale(whole @ new, divisor, count)[divisor]
        return np.asarray(advantage - found, np.float64)

    scale = np.maximum(np.abs(weights[free]), 1e-3 * np.abs(weights).max())
    better = least_squares(left, weights[free], x_scale=scale, max_nfev=20, ftol=1e-14, xtol=1e-12)
    refined = weights.copy()
    refined[free] = better.x
    return refined


def _scale(reward: Floats, divisor: Any, count: Floats) -> Floats:
    mean = np.bincount(divisor, reward) / count
    square = np.bincount(divisor, (reward - mean[divisor]) ** 2) / np.maximum(count - 1, 1)
    return np.asarray(np.sqrt(square) + EPSILON, dtype=np.float64)


def _explained(advantage: Floats, said: Floats) -> float:
    """1 less the share of the advantages' squares that is left, at the best factor (ddof differs
    between trainers)."""
    total = float(said @ said)
    if total <= 0:
        return 0.0
    left = advantage - said * (float(said @ advantage) / total)
    return 1 - float(left @ left) / max(float(advantage @ advantage), 1e-300)


def _round(weight: float) -> float:
    """A weight as somebody would have written it, where it is that within the fit's error."""
    for digits in (1, 2):
        if abs(weight - round(weight, digits)) <= 0.01 * max(abs(weight), 0.05):
            return round(weight, digits)
    return round(weight, 4)


__all__ = ["Weights", "solve"]
