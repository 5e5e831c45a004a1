"""Memory: what a model will need, and the peak of an update (the allocator's on a GPU, a count of
what is kept on a CPU)."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from recast.lm.containers import memory_limit
from recast.lm.device import Placement
from recast.lm.gguf_files import gguf_weights
from recast.lm.optional_extra import LMError
from recast.lm.prefix import CausalLM

TrainedPart = Literal["adam", "sgd", "adapters", "nothing"]
"""What is trained of a model and by which optimizer; adapters are small."""
_HELD = {
    "adam": ", gradient and Adam",
    "sgd": " and gradient",
    "adapters": "",
    "nothing": "",
}


def check_memory(
    folder: Path, placement: Placement, trained: TrainedPart = "adam", copies: int = 0
) -> None:
    """Raise LMError when the weights of a folder, or of a GGUF file, as they will be loaded, do
    not fit here with what is kept beside them.

    Counted in the placement's type, whatever type the files have: weights, `copies` more of them (a
    frozen reference, say), gradient and Adam's moments (with float32 copies below float32).
    Activations are not counted.
    """
    check_room(str(folder), parameters_of(folder), placement, trained, copies)


def check_room(
    what: str,
    weights: int,
    placement: Placement,
    trained: TrainedPart = "adam",
    copies: int = 0,
    instead: tuple[str, TrainedPart] = ("--lora", "adapters"),
) -> None:
    """`check_memory` for a model of so many weights, named `what` in the message. instead: the
    option for less than Adam, and what is trained with it.

    Raises LMError where it does not fit, with the options that would help.
    """
    size = torch.empty((), dtype=placement.dtype).element_size()
    need, have = weights * _bytes_each(size, trained, copies), available(placement.device)
    if need <= have:
        return
    narrow, lighter = "--dtype bfloat16", trained == "adam"
    options = [(narrow, 2, trained)] * (size > 2) + [(instead[0], size, instead[1])] * lighter
    ways = [way for way, s, kind in options if weights * _bytes_each(s, kind, copies) <= have]
    if not ways and lighter and size > 2 and weights * _bytes_each(2, instead[1], copies) <= have:
        ways = [f"{instead[0]} {narrow}"]
    held = f"{copies + 1} times its weights" if copies else "weights"
    raise LMError(
        f"{what}: too little memory: {weights / 1e9:.2f} billion parameters need "
        f"{need / 2**30:.1f} GiB for {held}{_HELD[trained]} in "
        f"{str(placement.dtype).removeprefix('torch.')}, {placement.device} has "
        f"{have / 2**30:.1f} GiB{_limited(placement.device, have)}; "
        f"use {' or '.join([*ways, 'a smaller model'])}"
    )


def _bytes_each(size: int, trained: TrainedPart, copies: int) -> int:
    """Of one weight of `size` bytes, with its copies, gradient and Adam's state."""
    moments = {"adam": size + 8 + (4 if size < 4 else 0), "sgd": size}
    return size * (1 + copies) + moments.get(trained, 0)


def parameters_of(folder: Path) -> int:
    """Weights that are read of a folder's safetensors files, or of a GGUF file, by their headers; 0
    for none. Raises LMError for a file that is damaged."""
    if folder.suffix == ".gguf" and not folder.is_dir():
        return gguf_weights(folder)
    read = _read_files(folder)
    listed = tensors(folder).items()
    return sum(math.prod(shape) for key, (_, shape) in listed if key.split(" ", 1)[0] in read)


def _read_files(folder: Path) -> set[str]:
    """The safetensors files that transformers reads where others lie beside them, such as
    `consolidated.safetensors`, which holds the same weights again."""
    every = {path.name for path in folder.glob("*.safetensors")}
    if "model.safetensors" in every:
        return {"model.safetensors"}
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        return every & set(index["weight_map"].values()) or every
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return every


LARGEST_HEADER = 20_000_000
"""Bytes of the header of a safetensors file: some 100 for each of its tensors."""
_NO_HEADER = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError,
              RecursionError, struct.error)  # fmt: skip


def tensors(folder: Path) -> dict[str, tuple[str, list[int]]]:
    """Type, as safetensors names it, and shape of each tensor in a folder's safetensors files, by
    file and name, from their headers. Raises LMError for a file that is damaged."""
    found: dict[str, tuple[str, list[int]]] = {}
    for path in folder.glob("*.safetensors") if folder.is_dir() else ():
        if not path.is_file():
            raise LMError(f"{path}: damaged, no regular file")
        try:
            with path.open("rb") as handle:
                (length,) = struct.unpack("<Q", handle.read(8))
                listed = json.loads(handle.read(min(length, LARGEST_HEADER)))
            found |= {
                f"{path.name} {name}": (str(value["dtype"]), [int(n) for n in value["shape"]])
                for name, value in listed.items()
                if name != "__metadata__"
            }
        except _NO_HEADER:
            raise LMError(f"{path}: damaged, its header is unreadable") from None
    return found


def available(device: torch.device) -> int:
    """Bytes of memory of a device: the card's, or the machine's as far as the container of this
    process may use it."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, memory_limit() or machine)


def _limited(device: torch.device, have: int) -> str:
    """Whose limit it is, where it is not the device's own."""
    contained = device.type != "cuda" and have == memory_limit()
    return " (the limit of its container)" if contained else ""


def peak_memory(model: CausalLM, call: Callable[[], object]) -> float:
    """Bytes at the peak of `call`, an update and its optimizer step.

    On CUDA the allocator's peak. On a CPU the tensors kept for the backward pass of the largest
    micro-batch, each storage once, plus weights, gradient and Adam's moments.
    """
    first = next(model.parameters())
    if first.is_cuda:
        torch.cuda.synchronize(first.device)
        torch.cuda.reset_peak_memory_stats(first.device)
        call()
        torch.cuda.synchronize(first.device)
        return float(torch.cuda.max_memory_allocated(first.device))
    weights = float(sum(4 * p.numel() * p.element_size() for p in model.parameters()))
    held: dict[int, int] = {}
    live = peak = 0
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    class Kept:
        """A tensor that waits for the backward pass; its storage is counted once."""

        def __init__(self, tensor: torch.Tensor) -> None:
            nonlocal live, peak
            self.tensor = tensor
            self.key = tensor.untyped_storage().data_ptr()
            if self.key not in own:
                if not held.get(self.key):
                    live += tensor.untyped_storage().nbytes()
                    peak = max(peak, live)
                held[self.key] = held.get(self.key, 0) + 1

        def __del__(self) -> None:
            nonlocal live
            if self.key not in own:
                held[self.key] -= 1
                if not held[self.key]:
                    live -= self.tensor.untyped_storage().nbytes()

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        call()
    return weights + peak
