"""The parts of `benchmarks/gpu.sh`, in order of worth, each in a process of its own with a limit.

    python -m benchmarks.gpu OUT.json [--seconds 470] [--device auto] [--size tiny] [--only PART]

OUT.json: machine (card, versions, measured ceilings), date, command, and `parts`: per part its
state (done, cut, failed), seconds and rows. It is rewritten after every measurement, so a run that
is cut keeps what it measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import gpu_cost, gpu_run

Emit = Callable[[dict[str, Any]], None]
"""Adds one row to the file."""


def simulator(device: str, size: str, emit: Emit) -> None:
    """The simulator's part; it alone needs numba, which a machine with a GPU may lack."""
    from benchmarks import gpu_simulator

    gpu_simulator.part(device, size, emit)


PARTS: dict[str, tuple[float, Callable[[str, str, Emit], None]]] = {
    "machine": (45, gpu_run.machine),
    "cost 1.7B, P = 512": (80, gpu_cost.part("qwen3-1.7b", 512)),
    "equality": (60, gpu_run.equality),
    "cost 1.7B, P = 2048": (85, gpu_cost.part("qwen3-1.7b", 2048)),
    "cost 8B, P = 512": (95, gpu_cost.part("qwen3-8b", 512)),
    "lm rl": (110, gpu_run.end_to_end),
    "cost 1.7B, P = 128": (45, gpu_cost.part("qwen3-1.7b", 128)),
    "simulator": (40, simulator),
}
"""Seconds that each may take at its full size, start included, and what it does with (device, size,
emit)."""


def main() -> None:
    reader = argparse.ArgumentParser()
    reader.add_argument("out", type=Path)
    reader.add_argument("--seconds", type=float, default=470.0)
    reader.add_argument("--device", default="auto")
    reader.add_argument("--size", choices=["full", "tiny"], default="full")
    reader.add_argument("--only", action="append", choices=list(PARTS))
    reader.add_argument("--strategy", action="append", help="of the costs, these alone")
    reader.add_argument("--inside", choices=list(PARTS), help=argparse.SUPPRESS)
    asked = reader.parse_args()
    if asked.inside:
        PARTS[asked.inside][1](asked.device, asked.size, lambda row: _add(asked, row))
        return
    if "lm rl" in (asked.only or PARTS):
        gpu_run.check_data()
    whole = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "benchmarks/gpu.sh" if asked.size == "full" else "benchmarks.gpu --size tiny",
        "parts": {},
    }
    _write(asked.out, whole)
    end = time.monotonic() + asked.seconds
    for name in asked.only or PARTS:
        most = PARTS[name][0] if asked.size == "full" else asked.seconds
        limit = min(most, end - time.monotonic())
        state, seconds = ("no time left", 0.0) if limit < 10 else _run(name, limit, asked)
        whole = json.loads(asked.out.read_text())
        part = whole["parts"].setdefault(name, {"rows": []})
        part.update(state=state, seconds=round(seconds, 1))
        _write(asked.out, whole)
        print(f"{name}: {state}, {len(part['rows'])} rows, {seconds:.0f} s", flush=True)


def _run(name: str, limit: float, asked: argparse.Namespace) -> tuple[str, float]:
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.gpu", str(asked.out), "--inside", name]
    command += ["--device", asked.device, "--size", asked.size]
    strategies = " ".join(asked.strategy or ())
    # A part may look at the clock and leave the last measurement out before it is cut.
    environment = os.environ | {"PART_ENDS": str(time.time() + limit - 2)}
    if strategies:
        environment["PART_STRATEGIES"] = strategies
    with tempfile.TemporaryFile("w+") as said:
        try:
            code = subprocess.run(
                command, timeout=limit, stdout=said, stderr=said, env=environment, check=False
            ).returncode
            state = "done" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            state = "cut"
        if state == "failed":
            said.seek(0)
            lines = said.read().strip().splitlines()[-25:]
            print("\n".join(lines), file=sys.stderr, flush=True)
            state = f"failed: {lines[-1][:300] if lines else f'exit code {code}'}"
    return state, time.monotonic() - began


def _add(asked: argparse.Namespace, row: dict[str, Any]) -> None:
    whole = json.loads(asked.out.read_text())
    whole["parts"].setdefault(asked.inside, {"rows": []})["rows"].append(row)
    _write(asked.out, whole)
    print(json.dumps(row), flush=True)


def _write(out: Path, whole: dict[str, Any]) -> None:
    draft = out.with_suffix(".tmp")
    draft.write_text(json.dumps(whole, indent=1))
    draft.replace(out)


if __name__ == "__main__":
    main()
