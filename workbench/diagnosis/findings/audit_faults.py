"""What is wrong with advantages that no formula gives, told by the advantages themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.diagnosis.findings.padded_step import PaddedStep

FaultKind = Literal[
    "", "formula", "zero", "reversed", "stride", "dealt", "foreign", "outside", "unknown"
]

FEWEST = 5
"""Groups of different rewards below which nothing is said."""

FITS = 0.95
"""Share of those groups that a formula must reproduce."""


def all_zero(step: PaddedStep) -> npt.NDArray[np.bool_]:
    """Groups of different rewards whose advantages are all 0, `[U]`."""
    a = np.where(step.valid, np.abs(step.advantage), 0.0)[step.uneven]
    return np.asarray(a.max(1) < 1e-9, np.bool_)


def stride_of(steps: Sequence[PaddedStep], group: int) -> int:
    """How many rows in a row of the batch were taken for a group, whatever their prompts: G, or
    a half, a quarter, twice or four times as many; 0 where rows were not cut so."""
    if any(_sliced_from(steps, group, first) for first in range(group)):
        return group
    others = [group * factor for factor in (2, 4)]
    others += [group // factor for factor in (2, 4) if group % factor == 0 and group > factor]
    return next((width for width in others if _sliced_from(steps, width, 0)), 0)


def fault_of(steps: Sequence[PaddedStep]) -> tuple[FaultKind, float]:
    """What is wrong with advantages that no formula gives, and in which share of the groups."""
    against = [_against(step) for step in steps]
    dead = np.concatenate([_both_signs(step) for step in steps])
    odd = float(np.concatenate(against).mean())
    if odd >= 0.2 or (len(dead) >= FEWEST and dead.sum() >= FEWEST and dead.mean() >= 0.2):
        return "foreign", max(odd, float(dead.mean()) if len(dead) else 0.0)
    outside = np.concatenate([_off_centre(step) for step in steps])
    if outside.mean() >= 0.2:
        return "outside", float(outside.mean())
    return "unknown", 1.0


def dealt_out(steps: Sequence[PaddedStep], group: int) -> bool:
    """Whether the rows of a group stand together, and those that stand one batch of prompts apart
    were taken for a group."""
    return _sliced_from(steps, group, 0, dealt=True)


def _sliced_from(steps: Sequence[PaddedStep], group: int, first: int, dealt: bool = False) -> bool:
    """Whether rows were cut into groups by their place in the batch: `group` in a row, whatever
    their prompts, from that row on; dealt: one of so many rows, as cards are dealt. Slices that are
    the groups themselves say nothing."""
    whole, rows = 0, 0
    for step in steps:
        order = np.argsort(step.order[step.valid])[first:]
        reward, advantage = step.reward[step.valid][order], step.advantage[step.valid][order]
        usable = len(reward) - len(reward) % group
        if not usable:
            continue
        where = np.broadcast_to(np.arange(len(step.valid))[:, None], step.valid.shape)
        own, size = where[step.valid][order], step.valid.sum(1)
        shape = (group, -1) if dealt else (-1, group)
        r, a, of = (
            each[:usable].reshape(shape).T if dealt else each[:usable].reshape(shape)
            for each in (reward, advantage, own)
        )
        other = (of != of[:, :1]).any(1) | (size[of[:, 0]] != group)
        r, a = r[other], a[other]
        if not len(r):
            continue
        centred = r - r.mean(1, keepdims=True)
        norm = (centred**2).sum(1, keepdims=True)
        slope = np.divide((centred * a).sum(1, keepdims=True), norm, out=0 * norm, where=norm > 0)
        near = np.abs(a - slope * centred).max(1) <= 1e-2 * np.maximum(np.abs(a).max(1), 0.1)
        whole += int((near & (slope[:, 0] >= 0)).sum())
        rows += len(near)
    return rows >= FEWEST and whole >= FITS * rows


def _against(step: PaddedStep) -> npt.NDArray[np.bool_]:
    """Groups of different rewards whose better half did not get the larger advantage, `[U]`."""
    keep = step.uneven
    r, a, valid = step.reward[keep], step.advantage[keep], step.valid[keep]
    count = valid.sum(1, keepdims=True)
    centred = np.where(valid, r - (r * valid).sum(1, keepdims=True) / count, 0.0)
    mean = (a * valid).sum(1, keepdims=True) / count
    return np.asarray((centred * (a - mean)).sum(1) <= 0, np.bool_)


def _both_signs(step: PaddedStep) -> npt.NDArray[np.bool_]:
    """Groups of equal rewards that have advantages of both signs, `[D]`."""
    a = np.where(step.valid, step.advantage, 0.0)[~step.uneven]
    return np.asarray((a.min(1) < -1e-3) & (a.max(1) > 1e-3), np.bool_)


def _off_centre(step: PaddedStep) -> npt.NDArray[np.bool_]:
    """Groups of different rewards whose advantages do not add up to nothing, though they follow
    from the rewards alone (rows of 0 aside), `[U]`: another mean was taken off."""
    a = np.where(step.valid, step.advantage, 0.0)[step.uneven]
    off = np.abs(a.sum(1)) > 0.02 * np.abs(a).sum(1) + 1e-6
    there = step.valid[step.uneven] & (np.abs(a) > 1e-9)
    count = np.maximum(there.sum(1, keepdims=True), 1)
    r = step.reward[step.uneven]
    r = np.where(there, r - (r * there).sum(1, keepdims=True) / count, 0.0)
    mine = np.where(there, a - a.sum(1, keepdims=True) / count, 0.0)
    norm = (r**2).sum(1, keepdims=True)
    rise = np.divide((r * mine).sum(1, keepdims=True), norm, out=0 * norm, where=norm > 0)
    left = np.abs(mine - rise * r).max(1)
    return np.asarray(off & (left <= 0.02 * np.abs(a).max(1) + 1e-6), np.bool_)
