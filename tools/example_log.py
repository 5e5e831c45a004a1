"""Make the packaged example log: `python tools/example_log.py [FILE]`.

A simulated GRPO run on a hard start whose learning rate is far too low, written as TRL would have
logged it: its reward does not move. Everything in it is made up by the simulator.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parents[1]
RUN = (
    *("--strategy", "grpo", "--lr", "0.00003", "--steps", "60", "--batch", "16", "--group", "16"),
    *("--all-zero", "0.9", "--seed", "1"),
)


def main(target: Path) -> None:
    """Train, convert, write one parquet file."""
    with tempfile.TemporaryDirectory() as folder:
        command = "from workbench.cli import main; main()"
        subprocess.run([sys.executable, "-c", command, "rollouts", folder, *RUN], check=True)
        files = sorted(Path(folder).glob("*.jsonl"), key=lambda path: int(path.stem))
        rows = pl.concat([pl.read_ndjson(path) for path in files])
    rows.select(
        "step",
        prompt=pl.format("simulated user {}", pl.col("prompt")),
        completion="prediction",
        hit_reward="reward",
        target=pl.col("target").list.first(),
        advantage=pl.col("advantage").cast(pl.Float32),
    ).write_parquet(target, compression="zstd", compression_level=19)
    print(f"{target}: {rows.height:,} rollouts, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "workbench" / "example" / "rollouts.parquet")
