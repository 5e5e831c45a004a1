"""Everything that pages use is imported once, by one thread, before the first page is drawn.

Two visitors of a server that has just started would import the same modules at the same moment,
and one of them would meet a module that is only half there.
"""

from __future__ import annotations

import gc
import pkgutil
import threading
from importlib import import_module

from altair.utils.schemapi import disable_debug_mode

import workbench

_ROOMS = ("analysis", "charts", "diagnosis", "jobs", "real", "report", "spec", "store", "studies")
_LIBRARIES = ("pandas", "pyarrow", "altair", "polars", "scipy.stats", "torch", "vl_convert")
_loaded = threading.Event()
_lock = threading.Lock()


def load() -> None:
    """Import it all; later calls return at once, calls meanwhile wait.

    Streamlit collects garbage after every run of a page. What is loaded here never becomes garbage:
    it is taken out of that search, which else takes longer than a page. Charts are not held against
    the schema while they are made: tests do that."""
    if _loaded.is_set():
        return
    with _lock:
        if not _loaded.is_set():
            for name in (*_LIBRARIES, *modules()):
                import_module(name)
            disable_debug_mode()
            gc.collect()
            gc.freeze()
            _loaded.set()


def modules() -> list[str]:
    """The workbench's own modules that pages may ask for."""
    found = pkgutil.walk_packages(workbench.__path__, "workbench.")
    own = tuple(f"workbench.{room}" for room in _ROOMS)
    return [one.name for one in found if one.name.startswith(own)]
