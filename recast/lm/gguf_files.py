"""GGUF files: how many weights one holds, by its header."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

from recast.lm.optional_extra import LMError

TEXT, LIST = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value of each other type."""
MOST_TENSORS = 1_000_000


def gguf_weights(path: Path) -> int:
    """Weights in a GGUF file of version 2 or 3. Raises LMError for a file that is damaged.

    Source: the format's specification (ggml, docs/gguf.md): counts of tensors and of values, the
    values, then name, shape, type and place of each tensor.
    """
    try:
        with path.open("rb") as file:
            magic, version, tensors, values = struct.unpack("<4sIQQ", file.read(24))
            if magic != b"GGUF" or version not in (2, 3) or tensors > MOST_TENSORS:
                raise ValueError("another format")
            for _ in range(values):
                _skip(file, TEXT)
                _skip(file, _number(file, "I"))
            return sum(_tensor(file) for _ in range(tensors))
    except (OSError, ValueError, KeyError, OverflowError, RecursionError, struct.error):
        raise LMError(f"{path}: damaged, its header is unreadable") from None


def _tensor(file: BinaryIO) -> int:
    """Weights of the tensor that is described next."""
    _skip(file, TEXT)
    shape = [_number(file, "Q") for _ in range(_number(file, "I"))]
    _number(file, "I")
    _number(file, "Q")
    return math.prod(shape)


def _skip(file: BinaryIO, kind: int) -> None:
    """Pass over the value that comes next."""
    if kind == LIST:
        inner, count = _number(file, "I"), _number(file, "Q")
        if inner in SIZES:
            file.seek(SIZES[inner] * count, 1)
        else:
            for _ in range(count):
                _skip(file, inner)
    else:
        file.seek(_number(file, "Q") if kind == TEXT else SIZES[kind], 1)


def _number(file: BinaryIO, kind: str) -> int:
    """The integer that comes next; struct.error at the end of the file."""
    (found,) = struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))
    return int(found)
