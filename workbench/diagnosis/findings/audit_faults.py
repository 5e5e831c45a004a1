"""What is wrong with advantages that no formula gives, told by the advantages themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.diagnosis.findings.padded_step import PaddedStep

FaultKind = Literal["", "formula", "zero", "reversed", "stride", "foreign", "outside", "unknown"]

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
    if _sliced(steps, group):
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


def _sliced(steps: Sequence[PaddedStep], group: int) -> bool:
    """Whether rows were cut into groups by their place in the batch: G in a row, whatever their
    prompts, from the batch's first row on or some rows later."""
    return any(_sliced_from(steps, group, first) for first in range(group))


def _sliced_from(steps: Sequence[PaddedStep], group: int, first: int) -> bool:
    whole, rows = 0, 0
    for step in steps:
        order = np.argsort(step.order[step.valid])[first:]
        reward, advantage = step.reward[step.valid][order], step.advantage[step.valid][order]
        usable = len(reward) - len(reward) % group
        if not usable:
            continue
        r = reward[:usable].reshape(-1, group)
        a = advantage[:usable].reshape(-1, group)
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
    """Groups of different rewards whose advantages do not add up to nothing, `[U]`."""
    a = np.where(step.valid, step.advantage, 0.0)[step.uneven]
    return np.asarray(np.abs(a.sum(1)) > 0.02 * np.abs(a).sum(1) + 1e-6, np.bool_)
