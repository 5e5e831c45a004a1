"""A PyTorch file as plain values: read without running anything that it holds."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

LARGEST = 4_000_000_000


class NoTensors(ValueError):
    """A file that is more than tensors and plain values; the message is one line."""


def is_torch(path: Path) -> bool:
    """Whether a zip archive is what `torch.save` writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist()[:50])
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def load(path: Path) -> Any:
    """What slime saved, tensors as lists. Raises NoTensors."""
    import torch

    if path.stat().st_size > LARGEST:
        raise NoTensors(f"a PyTorch file of more than {LARGEST:,} bytes")
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, ValueError, KeyError, EOFError, OSError, pickle.UnpicklingError):
        raise NoTensors(
            "a PyTorch file that holds more than tensors and plain values, so it is not opened; "
            "write its samples as JSON lines with step, prompt and reward"
        ) from None
    there = found if isinstance(found, dict) else {}
    samples, columns = there.get("samples"), there.get("rollout_data")
    rows = isinstance(samples, (list, tuple)) and bool(samples)
    if not rows and not isinstance(columns, dict):
        raise NoTensors(
            'a PyTorch file without rollouts; expected {"rollout_id", "samples"}, as slime does'
        )
    return plain(found)


def plain(value: Any) -> Any:
    """Tensors as numbers and lists, everywhere inside."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


__all__ = ["NoTensors", "is_torch", "load"]
