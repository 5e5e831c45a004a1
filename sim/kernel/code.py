"""Machine code by numba, kept in the user's cache folder and shared by all processes of a machine.

What is kept lies in a folder that is named after the source of this package and the versions that
compile it: numba itself would only notice a change in the very file of a function, not in the
files of the functions that it calls.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config

CONTRACT: Any = {"fastmath": {"contract"}, "error_model": "numpy"}
"""A multiplication and an addition may be one instruction; sums keep their order."""


def cache_folder() -> Path | None:
    """Where compiled code is kept: `NUMBA_CACHE_DIR` if set, else the user's cache folder; None
    where neither can be written."""
    given = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    try:
        base = Path(given) if given else Path.home() / ".cache"
        folder = base / "recast-workbench" / f"kernel-{_generation()}"
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, RuntimeError):
        return None
    return folder


def _generation() -> str:
    parts = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    return hashlib.sha256(b"\0".join([*parts, repr(versions).encode()])).hexdigest()[:16]


FOLDER = cache_folder()


HIDDEN: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""For functions that only machine code calls; half of the time of compiling goes into wrappers."""


def inner(function: Callable[..., Any]) -> Any:
    """A function that only machine code calls and that allocates nothing: no array is counted."""
    return numba.njit(_nrt=False, **HIDDEN, **CONTRACT)(function)


def part(function: Callable[..., Any]) -> Any:
    """As `inner`, and written into its callers before these are compiled: what stands in the middle
    would otherwise be optimised once per level of calls."""
    return numba.njit(inline="always", _nrt=False, **HIDDEN, **CONTRACT)(function)


def blas(function: Callable[..., Any]) -> Any:
    """A function that only machine code calls and that multiplies matrices."""
    return numba.njit(_nrt=True, **HIDDEN, **CONTRACT)(function)


def compiled(function: Callable[..., Any]) -> Any:
    """A function that Python calls, kept on disk from its first call on where that can be."""
    if FOLDER is None:
        return numba.njit(no_cfunc_wrapper=True, **CONTRACT)(function)
    before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER)
    try:
        return numba.njit(cache=True, no_cfunc_wrapper=True, **CONTRACT)(function)
    except RuntimeError:
        return numba.njit(no_cfunc_wrapper=True, **CONTRACT)(function)
    finally:
        config.CACHE_DIR = before
