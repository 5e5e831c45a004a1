"""Samples over seeds, and what is said of one: its mean, its interquartile mean.

The last axis is always the sample, one entry per seed (or per seed and stratum), `[..., n]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Statistic: TypeAlias = Callable[[Floats], Floats]
"""Maps samples `[..., n]` to `[...]`."""

SEED = 20_260_422


def mean(values: Floats) -> Floats:
    """Mean over the last axis."""
    found: Floats = np.mean(values, axis=-1)
    return found


def iqm(values: Floats) -> Floats:
    """Interquartile mean over the last axis: `floor(n / 4)` values are cut from each end."""
    cut = values.shape[-1] // 4
    found: Floats = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)
    return found


Name: TypeAlias = Literal["mean", "iqm"]
STATISTICS: Mapping[str, Statistic] = MappingProxyType({"mean": mean, "iqm": iqm})


def finite(value: float | None) -> float | None:
    """The value, or None where it is missing or infinite."""
    return value if value is not None and math.isfinite(value) else None


def one_per_seed(values: ArrayLike) -> Floats:
    """The values `[n]` as floats. Raises ValueError unless there is one or more, all finite."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise ValueError("sample: one finite value per seed is needed, and at least one seed")
    return sample
