"""Everything that a stranger could break, tried at once; prints the table of docs/robustness.md.

`python -m benchmarks.hostile` generates 1,000 inputs and runs every drill; `--inputs 60 --only
inputs` is what the tests run. Exit code 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.bombs import BOMBS
from benchmarks.hostile_commands import COMMAND_LINES, DATA_FOLDERS
from benchmarks.hostile_crowd import crowd
from benchmarks.hostile_inputs import INPUTS, Input
from benchmarks.hostile_stores import stores

ROOT = Path(__file__).parents[1]
MOST_SECONDS, MOST_BYTES, MOST_CHARACTERS = 10.0, 2e9, 300
PER_WORKER = 50
ALL = st.integers(0, 9).flatmap(
    lambda place: {7: COMMAND_LINES, 8: COMMAND_LINES, 9: DATA_FOLDERS}.get(place, INPUTS)
)
DRILLS = ("inputs", "bombs", "crowd", "stores")
PATIENCE = 120.0
"""Seconds by the clock after which an input is taken to hang."""


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
            f"over {MOST_SECONDS:g} s": refused and found["seconds"] > MOST_SECONDS,
            f"over {MOST_BYTES / 1e9:g} GB": found["peak"] > MOST_BYTES,
            "a message that is too long": refused and found["longest"] > MOST_CHARACTERS,
            "a refusal without a message": refused and not found["lines"],
        }
        for reason in (reason for reason, true in reasons.items() if true):
            text = json.dumps(asked)[:400]
            self.broken.append(f"{reason}: {text}\n    {(found['trace'] or found['err'])[-400:]}")

    def rows(self) -> list[tuple[str, str]]:
        """Rows of the table."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items()))
        refused = sum(count for code, count in self.codes.items() if code in (2, 3))
        return [
            (f"{self.inputs} generated inputs ({kinds})", f"{refused} refused in one line"),
            ("tracebacks, dead processes, other breaches", str(len(self.broken))),
            ("slowest, seconds of processor time", f"{self.slowest:.1f}"),
            ("largest process", f"{self.largest / 1e9:.2f} GB"),
            ("longest message of a refusal", f"{self.longest} characters"),
        ]


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
    @given(ALL)
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
            patience = threading.Timer(PATIENCE, worker.kill)
            patience.start()
            line = worker.stdout.readline()
            patience.cancel()
            if not line:
                died = f"its process ended with {worker.wait()} (-9: after {PATIENCE:g} s)"
                verdict.inputs += 1
                verdict.broken.append(f"{died}: {json.dumps(asked)[:400]}")
                return inputs[place + 1 :]
            verdict.note(asked, json.loads(line))
        worker.stdin.close()
        worker.wait()
    return []


def measured(words: list[str]) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """A command of `recast`, its seconds of processor time, and the bytes of the largest process
    that it and what it started were."""
    code = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'workbench.cli', *sys.argv[1:]], "
        "capture_output=True, text=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([done.returncode, done.stdout[-2000:], done.stderr[-2000:], "
        "used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    code_of, out, err, seconds, largest = json.loads(said.stdout)
    return subprocess.CompletedProcess(words, code_of, out, err), seconds, largest


def bombs() -> tuple[list[tuple[str, str]], list[str]]:
    """Small files that become large, given to `recast diagnose`; rows, and breaches."""
    rows, broken = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, write in BOMBS.items():
            path = Path(folder) / name
            # In a process of its own: what this one once held would count as its children's.
            writer = multiprocessing.get_context("spawn").Process(target=write, args=(path,))
            writer.start()
            writer.join()
            done, seconds, largest = measured(["diagnose", str(path)])
            rows.append(
                (
                    f"file bomb: {name}, {path.stat().st_size:,} bytes",
                    f"exit code {done.returncode}, {seconds:.0f} s of one core, "
                    f"largest process {largest / 1e9:.2f} GB",
                )
            )
            print(*rows[-1], sep=": ", file=sys.stderr, flush=True)
            if done.returncode not in (0, 2) or "Traceback" in done.stderr:
                broken.append(f"{name}: exit code {done.returncode}: {done.stderr[-300:]}")
            if largest > MOST_BYTES:
                broken.append(f"{name}: {largest / 1e9:.2f} GB")
            if done.returncode and seconds > MOST_SECONDS + path.stat().st_size / 1e8:
                broken.append(f"{name}: refused after {seconds:.0f} s")
            path.unlink()
    return rows, broken


def main() -> None:
    """Run what was asked for and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--sessions", type=int, default=10)
    options.add_argument("--tabs", type=int, default=20)
    options.add_argument("--only", choices=DRILLS, action="append")
    chosen = options.parse_args()
    wanted = chosen.only or DRILLS
    rows: list[tuple[str, str]] = []
    broken: list[str] = []
    if "inputs" in wanted:
        verdict = attempted(generated(chosen.inputs, chosen.seed))
        rows += verdict.rows()
        broken += verdict.broken
    for name, drill in (
        ("bombs", bombs),
        ("crowd", lambda: crowd(chosen.sessions, chosen.tabs)),
        ("stores", stores),
    ):
        if name in wanted:
            found, breaches = drill()
            rows += found
            broken += breaches
    print("| what was tried | what came of it |\n|---|---|")
    for what, came in rows:
        print(f"| {what} | {came} |")
    for text in broken:
        print(f"BROKEN {text}")
    print(f"{len(broken)} promises broken")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
