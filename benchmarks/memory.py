"""How long a command takes and how much memory it and all its processes hold together.

    python benchmarks/memory.py recast run --preset default --lr .003 --store STORE

Linux only: ten times a second, the sum of the proportional set sizes of the process and all its
descendants. Pages that they share are counted once; a peak that lasts less than that may be missed.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

EVERY = 0.1
"""Seconds between two looks."""


def children(pid: int) -> list[int]:
    """The processes that any thread of a process has started."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # the process has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # the thread has ended
                found += map(int, (thread / "children").read_text().split())
    return found


def processes(pid: int) -> list[int]:
    """A process and its descendants."""
    return [pid, *(one for child in children(pid) for one in processes(child))]


def held(pid: int) -> int:
    """Proportional set size in kB; 0 of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> int:
    """Run the command; its exit code."""
    began, peak = time.monotonic(), 0
    with subprocess.Popen(sys.argv[1:]) as child:
        while child.poll() is None:
            peak = max(peak, sum(map(held, processes(child.pid))))
            time.sleep(EVERY)
    print(f"{time.monotonic() - began:.1f} s, peak {peak / 1024:,.0f} MB", file=sys.stderr)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
