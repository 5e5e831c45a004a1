"""Named, counter-based random streams.

A draw depends on (seed, stream name, counter) alone: never on which runs share a batch, on their
order, or on the strategy. Strategies of one seed therefore see the same prompts and uniforms.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=4096)
def _key(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "little")


def stream(seed: int, name: str, counter: int = 0) -> np.random.Generator:
    """The generator of one named stream at one counter (an optimizer step, say)."""
    return np.random.Generator(np.random.Philox(key=_key(seed, name), counter=[0, 0, 0, counter]))


def key_of(seed: int, name: str) -> np.uint64:
    """A number that names one stream, for generators other than numpy's."""
    return np.uint64(_key(seed, name) % 2**64)


def uniforms(seeds: tuple[int, ...], name: str, counter: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform draws in [0, 1) for each run; float64 `[R, *shape]`."""
    return torch.from_numpy(np.stack([stream(s, name, counter).random(shape) for s in seeds]))


def normals(seeds: tuple[int, ...], name: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal draws for each run; float64 `[R, *shape]`."""
    return torch.from_numpy(np.stack([stream(s, name).standard_normal(shape) for s in seeds]))


def minibatch(seeds: tuple[int, ...], name: str, step: int, batch: int, total: int) -> Tensor:
    """Indices of each run's prompts at one step, without replacement inside an epoch; `[R, batch]`.

    An epoch is floor(total / batch) steps; the remainder of its permutation is left out.
    Raises ValueError when the batch is larger than the data.
    """
    if batch > total:
        raise ValueError(
            f"batch of {batch} prompts is larger than the {total} prompts of the world"
        )
    epoch, place = divmod(step, total // batch)
    rows = [permutation(s, name, epoch, total)[place * batch : (place + 1) * batch] for s in seeds]
    return torch.from_numpy(np.stack(rows))


@lru_cache(maxsize=256)
def permutation(seed: int, name: str, epoch: int, total: int) -> np.ndarray:
    """The order in which an epoch takes its prompts, `[total]`."""
    return stream(seed, name, epoch).permutation(total)
