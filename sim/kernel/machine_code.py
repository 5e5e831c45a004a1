"""Machine code by numba, kept in the user's cache folder and shared by all processes of a machine.

What is kept lies in a folder that is named after the source of this package and the versions that
compile it: numba itself would only notice a change in the very file of a function, not in the
files of the functions that it calls.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba.core import config
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

CONTRACT: Any = {"fastmath": {"contract"}, "error_model": "numpy"}
"""A multiplication and an addition may be one instruction; sums keep their order."""
HIDDEN: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""For functions that only machine code calls; half of the time of compiling goes into wrappers."""


class Linked(JITCodeLibrary):  # type: ignore[misc]
    """What only machine code calls: kept as it was lowered, and optimised once, in its callers.

    Numba would optimise every function for itself, with all that it calls, and make machine code
    of it that nobody runs: a third of the time of compiling.
    """

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Gather what it calls. Numba asks its engine for the address of a function's environment
        (what an error would need): that alone is defined."""
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        engine = self._codegen._engine
        known = [found.name for found in self._final_module.global_variables]
        fresh = [
            name for name in known if "NumbaEnv" in name and not engine.is_symbol_defined(name)
        ]
        if fresh:
            text = "\n".join(f'@"{name}" = common global i8* null' for name in fresh)
            engine.add_module(llvmlite.binding.parse_assembly(text))
            engine.finalize_object()
        self._finalized = True


class Inner(Compiler):  # type: ignore[misc]
    """Numba's own passes, into a `Linked` library."""

    def define_pipelines(self) -> Any:
        """As numba does."""
        codegen = self.state.targetctx.codegen()
        self.state.library = Linked(codegen, self.state.func_id.func_qualname)
        self.state.library.enable_object_caching()
        return super().define_pipelines()


def cache_folder() -> Path | None:
    """Where compiled code is kept: below `NUMBA_CACHE_DIR` or `XDG_CACHE_HOME` if set, else below
    the user's cache folder, or a folder of the user's own among temporary files; None where nothing
    can be written."""
    given = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    bases: list[Path] = [Path(given)] if given else []
    with contextlib.suppress(RuntimeError):
        bases.append(Path.home() / ".cache")
    user = os.getuid() if hasattr(os, "getuid") else "me"
    bases.append(Path(tempfile.gettempdir()) / f"recast-workbench-{user}")
    for base in bases:
        folder = base / "recast-workbench" / f"kernel-{_generation()}"
        if _own(folder):
            return folder
    return None


def _own(folder: Path) -> bool:
    """Whether the folder is there, ours alone to write, and can be written."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if hasattr(os, "getuid") and about.st_uid != os.getuid():
            return False
        if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _generation() -> str:
    parts = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    machine = llvmlite.binding.get_host_cpu_name()
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__, machine)
    return hashlib.sha256(b"\0".join([*parts, repr(versions).encode()])).hexdigest()[:16]


FOLDER = cache_folder()


def is_compiled(kind: str) -> bool:
    """Whether a process of this machine has compiled and kept code of a kind."""
    return FOLDER is not None and (FOLDER / f"{kind}.compiled").exists()


CALLED: set[str] = set()
"""Kinds whose machine code this process has."""


@contextlib.contextmanager
def calling(dtype: object, *features: str) -> Iterator[None]:
    """Around every call of code for parameters of a type, with features that are compiled only
    where they are asked for."""
    kind = ", ".join([str(dtype).removeprefix("torch."), *features])
    if kind in CALLED:
        yield
        return
    with first_call(kind):
        yield
    CALLED.add(kind)


@contextlib.contextmanager
def first_call(kind: str) -> Iterator[None]:
    """Around the first call of a process that may compile code of a kind: one process of a machine
    compiles and says so, the others wait for what it keeps."""
    marker = None if FOLDER is None else FOLDER / f"{kind}.compiled"
    if is_compiled(kind):
        yield
        return
    with _lock(None if FOLDER is None else FOLDER / f"{kind}.lock"):
        if not is_compiled(kind):
            often = "once on this machine" if marker else "in every process: no folder keeps it"
            print(f"compiling the kernel ({kind}), {often} ...", file=sys.stderr)  # noqa: T201
        with _no_collecting():
            yield
        if marker is not None:
            with contextlib.suppress(OSError):
                marker.touch()


@contextlib.contextmanager
def _no_collecting() -> Iterator[None]:
    """No search for garbage meanwhile: compiling makes millions of objects, and keeps them."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def _lock(path: Path | None) -> Iterator[None]:
    """Held by one process at a time, where the system has such locks; gone with its process."""
    try:
        import fcntl
    except ImportError:
        path = None
    if path is None:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def inner(function: Callable[..., Any]) -> Any:
    """A function that only machine code calls and that allocates nothing: no array is counted."""
    return numba.njit(pipeline_class=Inner, _nrt=False, **HIDDEN, **CONTRACT)(function)


def blas(function: Callable[..., Any]) -> Any:
    """A function that only machine code calls and that multiplies matrices."""
    return numba.njit(pipeline_class=Inner, _nrt=True, **HIDDEN, **CONTRACT)(function)


def compiled(function: Callable[..., Any]) -> Any:
    """A function that Python calls, kept on disk from its first call on where that can be."""
    if FOLDER is None:
        return numba.njit(no_cfunc_wrapper=True, **CONTRACT)(function)
    before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER)
    try:
        return numba.njit(cache=True, no_cfunc_wrapper=True, **CONTRACT)(function)
    finally:
        config.CACHE_DIR = before
