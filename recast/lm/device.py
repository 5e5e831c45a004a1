"""Where a model computes: device, floating-point type, memory for time, attention kernel.

Master weights: a model held in bfloat16 is trained through float32 copies that the optimizer keeps
(`recast.lm.optimizer`), so small steps are not rounded away.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch

from recast.lm.optional_extra import LMError

Attention = Literal["sdpa", "eager"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

PEAKS = (
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("A10", 125e12),
    ("RTX 4090", 165e12),
)
"""Dense bfloat16 FLOP per second of cards, by a part of their name: the makers' data sheets."""


@dataclass(frozen=True)
class Placement:
    """device and dtype of the weights; checkpointing: recompute activations in the backward pass
    (time for memory); attention: the kernels of transformers, `sdpa` (fused) or `eager`."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    checkpointing: bool = False
    attention: Attention = "sdpa"


CPU = Placement(torch.device("cpu"))


def place(
    device: str = "auto",
    dtype: str = "float32",
    checkpointing: bool = False,
    attention: Attention = "sdpa",
) -> Placement:
    """A placement from its names. device: auto (a GPU where there is one), cpu, cuda or cuda:i.

    Raises LMError, one line, for a device that is not there or a type that it cannot compute in.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if count else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdigit())):
        raise LMError(f"--device: {device!r}; expected auto, cpu, cuda or cuda:0")
    if dtype not in DTYPES:
        raise LMError(f"--dtype: {dtype!r}; expected {' or '.join(DTYPES)}")
    if kind == "cuda" and int(number or 0) >= count:
        there = f"this machine has {count} GPUs" if count else "torch finds no CUDA GPU here"
        raise LMError(f"--device: {device} asked for, {there}; use cpu or auto")
    if kind == "cuda" and dtype == "bfloat16" and not torch.cuda.is_bf16_supported():
        raise LMError("--dtype: this GPU cannot compute in bfloat16; use float32")
    chosen = torch.device("cuda", int(number or 0)) if kind == "cuda" else torch.device("cpu")
    return Placement(chosen, DTYPES[dtype], checkpointing, attention)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock(device: torch.device) -> float:
    """Seconds: of this process's processor time on a CPU, so that what else runs there does not
    count; on the wall, with an empty queue, on a GPU."""
    if device.type == "cuda":
        synchronise(device)
        return time.perf_counter()
    return time.process_time()


def described(device: torch.device) -> str:
    """The device's name for people: `cpu`, or the card's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def card_peak(device: torch.device) -> float | None:
    """Dense bfloat16 FLOP per second by the maker's data sheet; None for a card not in `PEAKS`."""
    name = described(device)
    return next((rate for part, rate in PEAKS if part in name), None)


def matrix_rate(
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    size: int | None = None,
    seconds: float = 0.2,
) -> float:
    """FLOP per second, of `clock`, of a large matrix product measured here (random numbers)."""
    size = size or (8192 if device.type == "cuda" else 768)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    a @ b
    began, count = clock(device), 0
    while clock(device) - began < seconds:
        for _ in range(8):
            a @ b
        count += 8
    return 2.0 * size**3 * count / (clock(device) - began)
