"""A child process that will never go on: seen from outside, and ended.

Where memory runs out inside a library with threads of its own, one of them may die and leave the
others waiting for it without an end. Such a process uses no processor time, so a ceiling on that
never meets it.
"""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

PATIENCE = 10.0
"""Seconds during which every thread of a child sleeps before it is taken to be stuck."""
GLANCE = 0.5


class Guard:
    """Kills a child all of whose threads sleep for `PATIENCE` s, or that lives longer than it may.

    A thread that waits for a disk or for a core does not sleep. Where the system does not say what
    threads do (no /proc), only the clock holds. late: whether it was the clock.
    """

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self.late = False
        self._process, self._seconds = process, seconds
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        began = still = time.monotonic()
        before = ""
        while self._process.poll() is None:
            state, now = _asleep(self._process.pid), time.monotonic()
            if not state or state != before:
                before, still = state, now
            self.late = now - began > self._seconds
            if self.late or now - still > PATIENCE:
                self._process.kill()
                return
            time.sleep(GLANCE)


def _asleep(pid: int) -> str:
    """What the threads of a process have used so far; empty where one of them is awake."""
    used = []
    try:
        for stat in sorted(Path(f"/proc/{pid}/task").glob("*/stat")):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "S":
                return ""
            used += fields[11:13]
    except OSError:
        return ""
    return " ".join(used)
