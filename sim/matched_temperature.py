"""The temperature at which a policy's mean entropy on validation users is a wanted one."""

from __future__ import annotations

import math

from torch import Tensor

from sim.decoding.enumerate import Enumeration, entropy_and_slope, tree_entropy

MATCHING_USERS = 64
CLOSE = 0.03
"""A Newton step on log T shorter than this is the last: the next would be about its square."""

OFF = 0.05
"""Nats: a temperature whose entropy misses the wanted one by more is no match."""

_ENDS = (math.log(1e-4), math.log(1e6))


def mean(values: Tensor) -> float:
    """Mean of values of any shape, in float64."""
    return values.double().mean().item()


def matched(logits: Enumeration, wanted: float, near: float) -> float:
    """Temperature at which mean entropy over the enumerated users is `wanted`, nats.

    near: where to look first. Newton's method on log T with the exact slope, in float64, kept
    inside a bracket, to about a part in a thousand; from 1e-4 to 1e6. NaN where no temperature
    there comes within `OFF` nats, or where the entropy is not a number.
    """
    low, high = _ENDS
    here = min(max(math.log(near), low), high) if near > 0 else 0.0
    for _ in range(80):
        entropy, slope = (mean(x) for x in entropy_and_slope(logits, math.exp(here)))
        gap = entropy - wanted
        if not math.isfinite(gap):
            return math.nan
        if abs(gap) < 1e-6 or high - low < 1e-4:
            break
        low, high = (low, here) if gap > 0 else (here, high)
        step = -gap / slope if math.isfinite(slope) and slope > 0 else math.inf
        after = here + step
        if not low < after < high:
            after = (low + high) / 2
        step, here = after - here, after
        if abs(step) < CLOSE:
            gap = mean(tree_entropy(logits, math.exp(here))) - wanted
            break
    return math.exp(here) if abs(gap) <= OFF else math.nan
