"""From an interval to a verdict: the rules are fixed here, before anything is measured.

An interval's missing end (None) is unbounded there; both missing means that there are too few
seeds, and is always inconclusive. A sweep that is not in the store is not measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal[
    "reproduced",
    "compatible",
    "not reproduced",
    "only where",
    "inconclusive",
    "shown, not judged",
    "not measured",
    "not judged",
]


CLOSE = 2.0
"""A figure is reproduced where the whole interval lies within this factor of it."""


@dataclass(frozen=True)
class Measured:
    """One claim in one setting. mode: which baseline; setting: which cell; low, high: corrected for
    the claim's family of settings; p: Holm-adjusted, None where no test applies; counts: False for
    a row shown beside the claim that does not decide it; beside: what such a row shows, when that
    is another quantity (a control, another metric)."""

    mode: str
    setting: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    p: float | None
    verdict: Verdict
    note: str = ""
    counts: bool = True
    beside: str = ""


def judge_number(
    low: float | None, high: float | None, paper: tuple[float, float], no_effect: float
) -> Verdict:
    """A number: the paper's value (or a part of its range) must lie inside the interval.

    An interval that holds both it and `no_effect` tells nothing apart. Meeting a range is no
    replication of a figure: the best that it can be is compatible.
    """
    if low is None and high is None:
        return "inconclusive"
    lower, upper = _bounds(low, high)
    if upper < paper[0] or lower > paper[1]:
        return "not reproduced"
    return "inconclusive" if lower <= no_effect <= upper else "compatible"


def judge_close(
    low: float | None, high: float | None, paper: float, factor: float = CLOSE
) -> Verdict:
    """A figure: the whole interval must lie within a factor of it, so that noise is no evidence;
    wholly outside refutes."""
    if low is None and high is None:
        return "inconclusive"
    lower, upper = _bounds(low, high)
    if upper < paper / factor or lower > paper * factor:
        return "not reproduced"
    inside = lower >= paper / factor and upper <= paper * factor
    return "reproduced" if inside else "inconclusive"


def judge_trend(low: float | None, high: float | None) -> Verdict:
    """A trend, measured so that the claimed direction is positive: the interval must exclude 0."""
    if low is None and high is None:
        return "inconclusive"
    lower, upper = _bounds(low, high)
    if lower > 0:
        return "reproduced"
    return "not reproduced" if upper < 0 else "inconclusive"


def judge_level(low: float | None, high: float | None, least: float) -> Verdict:
    """A level that must be kept: the interval must lie at or above `least`."""
    if low is None and high is None:
        return "inconclusive"
    lower, upper = _bounds(low, high)
    if lower >= least:
        return "reproduced"
    return "not reproduced" if upper < least else "inconclusive"


def together(rows: Sequence[Measured]) -> tuple[Verdict, str]:
    """The verdict over all settings that count, and the region that "only where" names.

    Reproduced needs every setting, and so does compatible; a refutation at least half of them, with
    none in favour; a mixture with some in favour is "only where". Settings that were not measured
    are in neither.
    """
    counted = [row for row in rows if row.counts]
    found = [row.verdict for row in counted]
    if not found or all(verdict == "shown, not judged" for verdict in found):
        return "shown, not judged", ""
    if all(verdict == "not measured" for verdict in found):
        return "not measured", ""
    good = ("reproduced", "compatible")
    if all(verdict in good for verdict in found):
        return "compatible" if "compatible" in found else "reproduced", ""
    if any(verdict in good for verdict in found):
        where = [f"{r.mode}: {r.setting}" for r in counted if r.verdict in good]
        return "only where", "; ".join(where)
    if 2 * found.count("not reproduced") >= len(found):
        return "not reproduced", ""
    return "inconclusive", ""


def judge_all(found: Sequence[Verdict]) -> Verdict:
    """A claim that needs all of several trends: one refuted refutes it."""
    if all(verdict == "reproduced" for verdict in found):
        return "reproduced"
    return "not reproduced" if "not reproduced" in found else "inconclusive"


def side(low: float | None, high: float | None, paper: tuple[float, float]) -> str:
    """Where the interval lies when it misses the paper's figure; empty when it does not."""
    if low is None and high is None:
        return ""
    lower, upper = _bounds(low, high)
    if lower > paper[1]:
        return "wholly above the paper's figure"
    return "wholly below the paper's figure" if upper < paper[0] else ""


def _bounds(low: float | None, high: float | None) -> tuple[float, float]:
    return -math.inf if low is None else low, math.inf if high is None else high
