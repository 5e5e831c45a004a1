"""Named, counter-based random streams of the real-model path (torch only).

A draw depends on (seed, name, counter) alone, so every strategy of one seed meets the same
prompts and the same uniforms, and a resumed run continues as if it had never stopped.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator(seed: int, name: str, counter: int = 0) -> torch.Generator:
    """The generator of one named stream at one counter (an optimizer step, say)."""
    digest = hashlib.sha256(f"{seed}/{name}/{counter}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def uniforms(seed: int, name: str, counter: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform draws in [0, 1); float64 of `shape`, on the CPU."""
    draws = generator(seed, name, counter)
    return torch.rand(shape, generator=draws, dtype=torch.float64, device="cpu")


def batch_indices(seed: int, name: str, step: int, batch: int, total: int) -> Tensor:
    """Indices of one step's prompts, without replacement inside an epoch; int64 `[batch]`, CPU.

    An epoch is floor(total / batch) steps. Raises ValueError when batch exceeds total.
    """
    if batch > total:
        raise ValueError(f"batch: {batch} prompts asked for, the data has {total}")
    epoch, place = divmod(step, total // batch)
    order = torch.randperm(total, generator=generator(seed, name, epoch), device="cpu")
    return order[place * batch : (place + 1) * batch]
