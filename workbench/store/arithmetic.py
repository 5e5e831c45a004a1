"""On what a run's last bits depend: the processor's vectors as each library uses them.

Two machines, or two settings of one, may differ in the last bits of a sum. What a run gives is the
same in any company and order on one kind of machine; between two kinds it differs by rounding.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

NAMES = ("vectors", "mkl", "numba", "rounding")
_FIELDS = {"vectors": "torch", "mkl": "MKL branch", "numba": "numba", "rounding": "rounding"}


@functools.cache
def arithmetic() -> Mapping[str, str]:
    """What this process computes with. vectors: torch's instruction set; mkl: number of the branch
    that MKL takes, empty where it cannot be asked; numba: processor that it compiles for; rounding:
    hash of a few fixed sums, products and exponentials of torch."""
    return {
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "mkl": _mkl_branch(),
        "numba": _numba_target(),
        "rounding": _rounding(),
    }


def _mkl_branch() -> str:
    """By a function that MKL does not document and torch's Linux wheels export."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not library.is_file():
        return ""
    try:
        asked = ctypes.CDLL(str(library)).mkl_serv_cbwr_get_auto_branch
    except (OSError, AttributeError):
        return ""
    return str(asked())


def _numba_target() -> str:
    """As numba's own settings have it, else the host's name by LLVM."""
    named = os.environ.get("NUMBA_CPU_NAME")
    if named:
        return named
    try:
        from llvmlite.binding import get_host_cpu_name
    except ImportError:
        return ""
    return str(get_host_cpu_name())


def _rounding() -> str:
    """Of sizes that one thread computes, so that the number of threads plays no part."""
    digest = hashlib.sha256()
    for kind in (torch.float32, torch.float64):
        ramp = torch.arange(1, 33 * 29 + 1, dtype=kind).reshape(33, 29) / 7
        product = ramp.sin() @ ramp.cos().T
        for found in (product, product.softmax(-1), product.tanh(), ramp.log().sum(0, True)):
            digest.update(found.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def apart(provenances: Iterable[Mapping[str, Any]]) -> str:
    """One line where runs were computed with more than one kind of arithmetic, else nothing. What a
    run does not say is not held against it."""
    counts: dict[tuple[str, ...], int] = {}
    for said in provenances:
        kind = tuple(str(said.get(name, "")) for name in NAMES)
        counts[kind] = counts.get(kind, 0) + 1
    told = [{k[i] for k in counts if k[i]} for i in range(len(NAMES))]
    if all(len(values) < 2 for values in told):
        return ""
    shown = [
        f"{count} with "
        + ", ".join(
            f"{_FIELDS[name]} {value}"
            for name, value, values in zip(NAMES, kind, told, strict=True)
            if value and len(values) > 1
        )
        for kind, count in sorted(counts.items(), key=lambda one: -one[1])
        if any(kind)
    ]
    return (
        f"computed on {len(shown)} kinds of machine ({'; '.join(shown[:3])}"
        f"{'; ...' if len(shown) > 3 else ''}), where the same run may differ in its last bits"
    )
