"""How long a command takes and how much memory it and all its processes hold together.

    python benchmarks/memory.py recast run --preset default --lr .003 --store STORE

Linux only: proportional set sizes, looked at a few times a second; pages that processes share are
counted once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def processes(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in processes(int(child)))]


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
            time.sleep(0.3)
    print(f"{time.monotonic() - began:.1f} s, peak {peak / 1024:,.0f} MB", file=sys.stderr)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
