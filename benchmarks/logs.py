"""How much memory and time a log takes: python benchmarks/logs.py [MEGABYTES ...] [--kind KIND].

Writes a made-up log of each size, reads and diagnoses it in a process of its own, and prints the
peak of its resident memory, the processor time per gigabyte, and the share of groups kept; then
`recast diagnose` on the same file: processor time of all its processes, the peak of each and of
them together. Files are deleted. Memory should not grow with size once the log is larger than what
is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
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


def write(path: Path, megabytes: int, kind: str) -> None:
    """A log of that size: uncompressed parquet has the size of its text."""
    source, size = batches(ROWS), 0
    if kind == "jsonl":
        with path.open("w", encoding="utf-8") as stream:
            while size < megabytes * 1_000_000:
                size += sum(stream.write(json.dumps(row) + "\n") for row in next(source))
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = 0
        while size < megabytes * 1_000_000:
            part_path = Path(folder) / f"{part:06}.parquet"
            pl.DataFrame(next(source)).write_parquet(part_path, compression="uncompressed")
            size += ROWS * 1300
            part += 1
        pl.scan_parquet(folder).sink_parquet(path, compression="uncompressed")


def read(path: Path) -> None:
    """Diagnose as the command does, and print what it took as JSON."""
    from workbench.diagnosis.counterfactual import counterfactual
    from workbench.diagnosis.diagnosis import diagnose, over_training, regime_table
    from workbench.diagnosis.findings import examine
    from workbench.diagnosis.logs.read import read_log

    began = time.process_time()
    log = read_log([path])
    reading = time.process_time() - began
    found = diagnose(log)
    regime_table(found), over_training(found), examine(found), counterfactual(found)
    print(
        json.dumps(
            {
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "reading": reading,
                "whole": time.process_time() - began,
                "rollouts": log.total,
                "kept": log.kept,
            }
        )
    )


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
    """What `recast diagnose` takes on this log. Linux: memory is looked at every 20 ms."""
    ordered = [sys.executable, "-m", "workbench.cli", "diagnose", str(path)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.Popen(ordered, cwd=ROOT, stdout=subprocess.DEVNULL)
    mine = theirs = together = 0
    while run.poll() is None:
        here, there = resident(run.pid), sum(resident(child) for child in descendants(run.pid))
        mine, theirs, together = max(mine, here), max(theirs, there), max(together, here + there)
        time.sleep(0.02)
    if run.returncode:
        raise SystemExit(f"recast diagnose ended with {run.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (
        f"recast diagnose: {spent:.1f} s of processor time in all; peak {mine / 1024:,.0f} MB, its "
        f"reading process {theirs / 1024:,.0f} MB, both at once {together / 1024:,.0f} MB"
    )


def main() -> None:
    """Measure each size in turn."""
    options = argparse.ArgumentParser()
    options.add_argument("megabytes", nargs="*", type=int, default=[50, 500])
    options.add_argument("--kind", choices=("jsonl", "parquet"), default="jsonl")
    options.add_argument("--folder", type=Path, default=None)
    options.add_argument("--read", type=Path, default=None, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.read is not None:
        read(chosen.read)
        return
    for megabytes in chosen.megabytes:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            path = Path(folder) / f"log.{chosen.kind}"
            write(path, megabytes, chosen.kind)
            size = path.stat().st_size / 1e9
            ordered = [sys.executable, str(ROOT / "benchmarks" / "logs.py"), "--read", str(path)]
            done = subprocess.run(ordered, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            whole = command(path)
        print(
            f"{chosen.kind} {size:.2f} GB, {found['rollouts']:,} rollouts: peak "
            f"{found['peak_mb']:,.0f} MB, {found['reading'] / size:.0f} s of processor time per GB "
            f"to read, {found['whole'] - found['reading']:.0f} s to diagnose, "
            f"{found['kept']:.0%} of the groups kept",
            whole,
            sep="\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
