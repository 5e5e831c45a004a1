"""From which value on an outcome is a hit, by which rule, and how sure that is.

A level separates hits from misses where the outcome has two levels, where it is 0 throughout, and
where its upper levels stand apart from all others. Elsewhere nobody can know, and it is said what
to ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from workbench.diagnosis.logs.column_values import plain_name
from workbench.diagnosis.logs.rewards import RewardRule

Sure = Literal["known", "likely", "unknown"]
Floats = NDArray[np.float64]

APART = 0.5
"""Levels stand apart where the gap below them is more than this share of the outcome's range."""

HEAPS = 0.75
"""The same where both sides take any number of values, none of them negative."""

LEVELS = 12
"""Up to so many values an outcome has levels; beyond, it is a scale."""

ENOUGH = 5
"""Hits with a semantic ID from which on they are compared with their targets."""

ANY_IS_HIT = ("hit", "pass", "success", "solved", "em", "exact_match", "correct")
BINARY = ((0.0, 1.0), (-1.0, 1.0), (-1.0, 0.0))


@dataclass(frozen=True)
class HitRule:
    """An outcome above the threshold is a hit; None where nobody can know. how: in words; values:
    of the outcome, at most `LEVELS`, the largest first; ranked: hits are 0 and misses of a group
    with a hit are negative by rank (MiniOneRec's ranking reward); rescaled: outcomes became 1 and 0
    by the scale of each task."""

    threshold: float | None
    sure: Sure
    how: str
    values: tuple[float, ...] = ()
    ranked: bool = False
    rescaled: bool = False

    @property
    def known(self) -> bool:
        """Whether hits can be counted."""
        return self.threshold is not None

    @property
    def words(self) -> str:
        """One line: the rule, or what to ask for."""
        if self.threshold is None:
            shown = ", ".join(f"{one:g}" for one in self.values)
            return (
                f"hits are not counted: {self.how} (values: {shown}); say from which value on a "
                "rollout counts as a hit (--threshold), or which column holds the raw outcome "
                "(--outcome)"
            )
        return f"a hit is {self.how} ({self.sure})"


def hit_rule(
    rollouts: pl.DataFrame, reading: RewardRule, threshold: float | None, tolerance: float
) -> HitRule:
    """The rule for these rollouts; threshold: what the user said, None to find it. A likely one
    gives way where none of its hits is the semantic ID that was asked for."""
    rule = _by_level(rollouts, reading, threshold, tolerance)
    if rule.sure != "likely" or rule.ranked or rule.threshold is None:
        return rule
    hits = rollouts.filter(pl.col("outcome") > rule.threshold + tolerance)
    depth, matched = hits["depth"], hits["matched"]
    coded = int((depth > 1).sum())
    if coded < ENOUGH or coded < 0.9 * hits.height or (matched >= depth).any():
        return rule
    how = f"of {hits.height:,} rollouts with {rule.how}, none holds its target"
    return HitRule(None, "unknown", how, rule.values)


def _by_level(
    rollouts: pl.DataFrame, reading: RewardRule, threshold: float | None, tolerance: float
) -> HitRule:
    """The rule that the values of the outcome suggest."""
    outcome = rollouts["outcome"]
    values = _values(outcome)
    column = reading.outcome_column
    shown = tuple(sorted(values, reverse=True)[:LEVELS])
    if threshold is not None:
        return HitRule(threshold, "known", f"an outcome above {threshold:g}, as you said", shown)
    levels = np.asarray(sorted(values))
    if levels[-1] - levels[0] <= tolerance:
        return _one_level(float(levels[-1]), reading, shown, tolerance)
    if len(levels) == 2:
        return _two_levels(levels, rollouts, reading, shown, tolerance)
    if _ranked(rollouts, tolerance):
        return HitRule(
            0.5, "likely", "a 0 in a group whose other rewards are negative by rank", shown, True
        )
    named = plain_name(column).removesuffix("_reward").removeprefix("is_")
    if column and named in ANY_IS_HIT and levels[0] >= -tolerance:
        return HitRule(0.0, "likely", f"any {column} above 0", shown)
    counts = [values[float(one)] for one in levels]
    return _apart(levels, counts, shown, tolerance)


def _values(outcome: pl.Series) -> dict[float, int]:
    """How often each value occurs, rounded to 1e-6."""
    counted = outcome.round(6).value_counts()
    return {float(value) + 0.0: int(count) for value, count in counted.iter_rows()}


def _one_level(
    value: float, reading: RewardRule, shown: tuple[float, ...], tolerance: float
) -> HitRule:
    name = reading.outcome_column
    if abs(value) <= tolerance:
        return HitRule(0.0, "known", "an outcome above 0, and none is", shown)
    if name and abs(value - 1) <= tolerance:
        return HitRule(0.0, "likely", f"a {name} of 1, and all are", shown)
    if name and reading.how == "chosen" and value > 0:
        return HitRule(0.0, "likely", f"a {name} above 0, and all are", shown)
    if name and value < 0:
        return HitRule(0.0, "likely", f"a {name} above 0, and none is", shown)
    return HitRule(None, "unknown", f"every rollout has the outcome {value:g}", shown)


def _two_levels(
    levels: Floats,
    rollouts: pl.DataFrame,
    reading: RewardRule,
    shown: tuple[float, ...],
    tolerance: float,
) -> HitRule:
    low, high = float(levels[0]), float(levels[1])
    how = f"the upper of two values, {high:g}"
    between = low if (low, high) in BINARY else (low + high) / 2
    between = 0.0 if low <= 0 < high else between
    if any(abs(low - a) + abs(high - b) <= 2 * tolerance for a, b in BINARY):
        return HitRule(between, "known", how, shown)
    if reading.outcome_column:
        return HitRule(between, "likely", how, shown)
    spread = pl.col("outcome").max() - pl.col("outcome").min()
    mixed = rollouts.group_by("key").agg(mixed=spread > tolerance)["mixed"].any()
    if not mixed:
        return HitRule(None, "unknown", "two values, which never differ inside a group", shown)
    return HitRule(between, "likely", how, shown)


def _ranked(rollouts: pl.DataFrame, tolerance: float) -> bool:
    """Whether rewards are 0 in groups without a hit, and elsewhere 0 for hits and negative by rank
    for misses: -1/log2(rank + 2), divided by its sum over the group."""
    top = float(rollouts["outcome"].to_numpy().max())
    if abs(top) > tolerance:
        return False
    groups = rollouts.group_by("key").agg(
        least=pl.col("outcome").min(),
        hits=(pl.col("outcome") >= -tolerance).sum(),
        misses=pl.col("outcome").filter(pl.col("outcome") < -tolerance).sort(),
        size=pl.len(),
    )
    moving = groups.filter(pl.col("least") < -tolerance)
    if moving.height < 3 or (moving["hits"] == 0).any():
        return False
    good = 0
    for misses, size in moving.select("misses", "size").head(200).iter_rows():
        rank = 1 / np.log2(np.arange(size) + 2)
        allowed = -rank / rank.sum()
        near = np.abs(np.asarray(misses)[:, None] - allowed[None, :]).min(1)
        good += bool((near < 1e-4).all())
    return good >= 0.9 * min(200, moving.height)


def _apart(
    levels: Floats, counts: Sequence[int], shown: tuple[float, ...], tolerance: float
) -> HitRule:
    """The levels above the widest gap, where they stand apart, are few, and are near
    each other or mostly one."""
    gaps = np.diff(levels)
    place = int(np.argmax(gaps))
    gap, whole = float(gaps[place]), float(levels[-1] - levels[0])
    above, below = counts[place + 1 :], counts[: place + 1]
    total = sum(counts)
    enough = sum(below) >= max(5, 0.005 * total) and max(above) >= 3
    width = float(levels[-1] - levels[place + 1])
    mode = 2 * max(above) >= sum(above)
    # A scale on both sides of the gap has levels all the same where most rollouts are at one each.
    level = len(above) <= LEVELS or (mode and 3 * max(below) >= sum(below))
    # Rewards of right answers that vary a little (by length, say) above one value of wrong ones.
    level = level or (10 * max(below) >= 9 * sum(below) and 2 * width <= gap)
    few = levels[-1] > 0 and level and (mode or 2 * width <= gap)
    # Two narrow heaps, near 0 and well above it: whatever is added to either, it is little.
    many = min(sum(above), sum(below)) >= max(5, 0.005 * total)
    heaps = levels[0] >= -tolerance and gap > HEAPS * whole and many
    if (gap > APART * whole + tolerance and enough and few) or heaps:
        middle = float(levels[place] + levels[place + 1]) / 2
        low, high = float(levels[place]), float(levels[place + 1])
        cut = 0.0 if low <= 0 < high else middle
        words = f"an outcome of {high:g} or more; the next value below is {low:g}"
        return HitRule(cut, "likely", words, shown)
    if two_sided := _around_zero(levels, counts, gaps, place):
        low, high = float(levels[place]), float(levels[place + 1])
        return HitRule(
            0.0, "likely", f"an outcome above 0: {two_sided} {low:g} and {high:g}", shown
        )
    if len(levels) <= LEVELS and levels[-2] <= tolerance < levels[-1] and counts[-1] >= 3:
        return HitRule(0.0, "likely", f"the only value above 0, {levels[-1]:g}", shown)
    kind = "values" if len(levels) <= LEVELS else "different values"
    return HitRule(
        None, "unknown", f"the outcome takes {len(levels):,} {kind} and none stands apart", shown
    )


def _around_zero(levels: Floats, counts: Sequence[int], gaps: Floats, place: int) -> str:
    """Whether two scales, one of each sign, have a band around 0 between them that is a quarter of
    the range and ten times as wide as any other gap (rewards of right and of wrong answers by their
    length)."""
    if not levels[place] < 0 < levels[place + 1] or len(gaps) < 2 * LEVELS:
        return ""
    others = np.delete(gaps, place)
    wide = gaps[place] > 0.25 * (levels[-1] - levels[0]) and gaps[place] > 10 * others.max()
    few = min(sum(counts[: place + 1]), sum(counts[place + 1 :]))
    return "none lies between" if wide and few >= max(5, 0.005 * sum(counts)) else ""


__all__ = ["HitRule", "hit_rule"]
