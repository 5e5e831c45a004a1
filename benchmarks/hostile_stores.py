"""The drills of damaged and of shared stores, which are tests, as rows of the table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DRILLS = {
    "every kind of file in a store, damaged in every way": "tests/workbench/store/test_damage.py",
    "a store of several users": "tests/workbench/store/test_two_users.py",
}


def stores() -> tuple[list[tuple[str, str]], list[str]]:
    """Run the drills; rows, and breaches."""
    rows, broken = [], []
    for what, path in DRILLS.items():
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "", path],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        counts = {
            name: int(number)
            for number, name in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)
        }
        cases = "1 case" if sum(counts.values()) == 1 else f"{sum(counts.values())} cases"
        said = ", ".join(f"{number} {name}" for name, number in counts.items())
        rows.append((f"{what} ({cases})", said or "did not run"))
        print(*rows[-1], sep=": ", file=sys.stderr, flush=True)
        if done.returncode:
            broken.append(f"{path}: {done.stdout[-600:]}")
    return rows, broken
