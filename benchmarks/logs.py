"""How much memory and time a log takes: python benchmarks/logs.py [MEGABYTES ...] [--kind KIND].

Writes a made-up log of each size, runs `recast diagnose` on it, and prints the processor time of
all its processes, the peak of each and of them together, and what share of the groups was looked
at. Files are deleted. Memory should not grow once a log is larger than what is kept. Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).parents[1]
GROUP, BATCH, ROWS = 16, 64, 16 * 1024
FILLER = "tell me what this user would like next after all of this, and say it in few words "


def batches(rows_of: int) -> Iterator[list[dict[str, object]]]:
    """Rollouts without end, some 1.3 kB each; the texts are made up, the ids differ."""
    rng = np.random.default_rng(0)
    step = 0
    while True:
        rows: list[dict[str, object]] = []
        while len(rows) < rows_of:
            step += 1
            for prompt in range(BATCH):
                hits = rng.random(GROUP) < rng.beta(0.3, 10)
                codes = rng.integers(0, 64, (GROUP, 3))
                for hit, (a, b, c) in zip(hits.tolist(), codes.tolist(), strict=True):
                    said = "<a_1><b_2><c_3>" if hit else f"<a_{a}><b_{b}><c_{c}>"
                    rows.append(
                        {
                            "step": step,
                            "prompt": f"user {step}-{prompt}: {FILLER * 12}",
                            "completion": f"{rng.bytes(80).hex()} {said}",
                            "reward": float(hit),
                            "target": "<a_1><b_2><c_3>",
                        }
                    )
        yield rows


def write(path: Path, megabytes: int, kind: str) -> int:
    """A log of that size; returns its rollouts. Uncompressed parquet has the size of its text."""
    source, size, rollouts = batches(ROWS), 0, 0
    if kind == "jsonl":
        with path.open("w", encoding="utf-8") as stream:
            while size < megabytes * 1_000_000:
                rows = next(source)
                size += sum(stream.write(json.dumps(row) + "\n") for row in rows)
                rollouts += len(rows)
        return rollouts
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = 0
        while size < megabytes * 1_000_000:
            part_path = Path(folder) / f"{part:06}.parquet"
            pl.DataFrame(next(source)).write_parquet(part_path, compression="uncompressed")
            size += ROWS * 1300
            part += 1
            rollouts += ROWS
        pl.scan_parquet(folder).sink_parquet(path, compression="uncompressed")
    return rollouts


def resident(process: int) -> int:
    """Kilobytes that a process holds now; 0 once it is gone."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if "VmRSS" in line), 0)


def descendants(process: int) -> list[int]:
    """Processes that this one has begun, and theirs."""
    found = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in listed.read_text().split()]
    return [*found, *(each for child in found for each in descendants(child))]


def command(path: Path) -> str:
    """What `recast diagnose` takes on this log; memory is looked at every 20 ms."""
    ordered = [sys.executable, "-m", "workbench.cli", "diagnose", str(path)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    mine = theirs = together = 0
    # As from a shell: importing Polars has left the allocator's settings in this environment.
    shell = {name: said for name, said in os.environ.items() if name != "_RJEM_MALLOC_CONF"}
    # An answer is one screen, which a pipe holds.
    with subprocess.Popen(ordered, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=shell) as run:
        while run.poll() is None:
            here, there = resident(run.pid), sum(resident(child) for child in descendants(run.pid))
            mine, theirs, together = (
                max(mine, here),
                max(theirs, there),
                max(together, here + there),
            )
            time.sleep(0.02)
        assert run.stdout is not None
        first = run.stdout.readline()
    if run.returncode:
        raise SystemExit(f"recast diagnose ended with {run.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sample = re.search(r"a sample of (\S+) of its groups", first)
    return (
        f"{spent:.1f} s of processor time; peak {together / 1024:,.0f} MB together, the reading "
        f"process {theirs / 1024:,.0f} MB, the other {mine / 1024:,.0f} MB; "
        f"{sample[1] if sample else '100%'} of the groups"
    )


def main() -> None:
    """Measure each size in turn."""
    options = argparse.ArgumentParser()
    options.add_argument("megabytes", nargs="*", type=int, default=[50, 500])
    options.add_argument("--kind", choices=("jsonl", "parquet"), default="jsonl")
    options.add_argument("--folder", type=Path, default=None)
    chosen = options.parse_args()
    for megabytes in chosen.megabytes:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            path = Path(folder) / f"log.{chosen.kind}"
            rollouts = write(path, megabytes, chosen.kind)
            size = path.stat().st_size / 1e9
            print(
                f"{chosen.kind} {size:.2f} GB, {rollouts:,} rollouts: {command(path)}", flush=True
            )


if __name__ == "__main__":
    main()
