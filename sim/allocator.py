"""Memory that stays with the process between steps.

glibc gives large blocks back to the system when they are freed, and the system clears them page by
page when they are asked for again. A training step frees and asks for the same few megabytes every
time, and would spend a quarter of its time at G = 512 on that.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc, mallopt(3)."""
KEPT = 256 * 2**20
"""Bytes: smaller blocks come from the heap, and so much free memory is kept at its end."""


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, up to `KEPT` bytes; whether its C library can.

    Changes no result, only how long memory takes to get.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(which, KEPT) == 1 for which in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)
    )
