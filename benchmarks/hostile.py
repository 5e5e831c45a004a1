"""Everything that a stranger could break, tried at once; prints the table of docs/robustness.md.

`python -m benchmarks.hostile` generates 1,000 inputs and runs every drill; `--inputs 60 --only
inputs` is what the tests run. Exit code 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks.hostile_inputs import INPUTS, Input

ROOT = Path(__file__).parents[1]
MOST_SECONDS, MOST_BYTES, MOST_CHARACTERS = 10.0, 2e9, 300
PER_WORKER = 50


@dataclass
class Verdict:
    """What became of many inputs: how many there were, and those that broke a promise."""

    inputs: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    largest: float = 0.0
    longest: int = 0
    broken: list[str] = field(default_factory=list)

    def note(self, asked: Input, found: dict[str, Any]) -> None:
        """Take in how one input ended."""
        self.inputs += 1
        self.codes[found["code"]] += 1
        self.kinds[asked["kind"]] += 1
        self.slowest = max(self.slowest, found["seconds"])
        self.largest = max(self.largest, found["peak"])
        refused = found["code"] in (2, 3)
        if refused:
            self.longest = max(self.longest, found["longest"])
        reasons = {
            "a traceback": bool(found["trace"]),
            "an exit code of its own": found["code"] not in (0, 1, 2, 3),
            f"over {MOST_SECONDS:g} s": found["seconds"] > MOST_SECONDS,
            f"over {MOST_BYTES / 1e9:g} GB": found["peak"] > MOST_BYTES,
            "a message that is too long": refused and found["longest"] > MOST_CHARACTERS,
            "a refusal without a message": refused and not found["lines"],
        }
        for reason in (reason for reason, true in reasons.items() if true):
            text = json.dumps(asked)[:400]
            self.broken.append(f"{reason}: {text}\n    {(found['trace'] or found['err'])[-400:]}")


def generated(count: int, start: int) -> list[Input]:
    """So many inputs, the same for the same `start`."""
    found: list[Input] = []

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(INPUTS)
    def collect(one: Input) -> None:
        found.append(one)

    collect()
    return found


def attempted(inputs: list[Input]) -> Verdict:
    """Run every input, `PER_WORKER` in a process."""
    verdict = Verdict()
    for first in range(0, len(inputs), PER_WORKER):
        waiting = inputs[first : first + PER_WORKER]
        while waiting:
            waiting = _served(waiting, verdict)
    return verdict


def _served(inputs: list[Input], verdict: Verdict) -> list[Input]:
    """Run inputs in one process; what is left when one of them ended it."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.hostile_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    with worker.stdin, worker.stdout:
        for place, asked in enumerate(inputs):
            worker.stdin.write(json.dumps(asked) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
            if not line:
                died = f"its process ended with {worker.wait()}"
                verdict.inputs += 1
                verdict.broken.append(f"{died}: {json.dumps(asked)[:400]}")
                return inputs[place + 1 :]
            verdict.note(asked, json.loads(line))
        worker.stdin.close()
        worker.wait()
    return []


def main() -> None:
    """Run what was asked for and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", choices=["inputs", "bombs"], action="append")
    chosen = options.parse_args()
    wanted = chosen.only or ["inputs"]
    broken: list[str] = []
    if "inputs" in wanted:
        verdict = attempted(generated(chosen.inputs, chosen.seed))
        print(f"{verdict.inputs} inputs: {dict(verdict.kinds)}")
        print(f"exit codes {dict(sorted(verdict.codes.items()))}")
        print(
            f"slowest {verdict.slowest:.1f} s of processor time, largest process "
            f"{verdict.largest / 1e9:.2f} GB, longest message {verdict.longest} characters"
        )
        broken += verdict.broken
    for text in broken:
        print(f"BROKEN {text}")
    print(f"{len(broken)} promises broken")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
