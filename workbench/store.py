"""The store: one immutable Parquet file per finished run, written atomically and checksummed.

Layout: `STORE/runs/<key>/<sha256>.parquet`. The key is a hash of the run's configuration, the file
name is the SHA-256 of its bytes. A run is published by renaming a whole folder, so it exists
entirely or not at all, and a second writer of the same run loses the race without harm.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import torch

from recast.ledger import RunRecord

SCHEMA_VERSION = 1
EXAMPLE = Path(__file__).parent / "example" / "quick.parquet"
EXAMPLE_COMMAND = "recast run --preset quick --store example && recast store export example FILE"


class StoreError(Exception):
    """A store that cannot be written or read; the message is one line for the user."""


@dataclass(frozen=True)
class Store:
    """A folder of finished runs."""

    root: Path

    def prepare(self) -> Store:
        """Create the folders. Raises StoreError when the path is not a writable folder."""
        try:
            (self.root / "runs").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root, prefix=".write-test-"):
                pass
        except OSError as problem:
            raise StoreError(
                f"store {self.root}: not a writable folder ({problem.strerror}); "
                "choose another with --store"
            ) from None
        return self

    def has(self, key: str) -> bool:
        """Whether this run is finished and stored."""
        return (self.root / "runs" / key).is_dir()

    def write(self, key: str, record: RunRecord) -> Path:
        """Publish one finished run; returns its file. A run that is already there is kept.

        Raises StoreError when the disk refuses; nothing half-written stays visible.
        """
        final = self.root / "runs" / key
        scratch = Path()
        try:
            scratch = Path(tempfile.mkdtemp(dir=self.root, prefix=".tmp-"))
            draft = scratch / "run.parquet"
            frame = pl.DataFrame(list(record.rows), infer_schema_length=None).with_columns(
                run=pl.lit(key),
                **{k: pl.lit(v) for k, v in record.config.items() if not isinstance(v, dict)},
                **{k: pl.lit(v, dtype=pl.Float64) for k, v in record.world.items()},
                config=pl.lit(json.dumps(record.config, sort_keys=True)),
                provenance=pl.lit(json.dumps(_provenance())),
                diverged_at=pl.lit(record.diverged_at, dtype=pl.Int64),
                schema_version=pl.lit(SCHEMA_VERSION),
            )
            frame.write_parquet(draft, compression="zstd")
            with draft.open("rb") as handle:
                os.fsync(handle.fileno())
            draft.rename(scratch / f"{_sha256(draft)}.parquet")
            _fsync(scratch)
            try:
                scratch.rename(final)
            except OSError:
                if not final.is_dir():
                    raise
            _fsync(final.parent)
        except OSError as problem:
            raise StoreError(f"store {self.root}: cannot write ({problem.strerror})") from None
        finally:
            if scratch != Path() and scratch.exists():
                shutil.rmtree(scratch, ignore_errors=True)
        return next(final.glob("*.parquet"))

    def files(self) -> list[Path]:
        """Every stored run's file, in key order."""
        return sorted((self.root / "runs").glob("*/*.parquet"))

    def damaged(self) -> list[Path]:
        """Files whose bytes no longer match the checksum in their name."""
        return [path for path in self.files() if _sha256(path) != path.stem]

    def load(self) -> pl.DataFrame:
        """All runs, one row per (run, evaluation, split, slice); empty frame for an empty store.

        Raises StoreError naming the first damaged or unreadable file.
        """
        bad = self.damaged()
        if bad:
            raise StoreError(
                f"{bad[0]}: damaged, its checksum does not match ({len(bad)} in all); "
                "delete its folder and run again"
            )
        files = self.files()
        if not files:
            return pl.DataFrame()
        return pl.concat([pl.read_parquet(f) for f in files], how="diagonal_relaxed")


def run_key(config: Mapping[str, Any]) -> str:
    """Name of a run: a hash of everything that determines it."""
    text = json.dumps({"schema": SCHEMA_VERSION, **config}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def mark_tuned(frame: pl.DataFrame, metric: str = "pass_at_1_matched") -> pl.DataFrame:
    """Add `tuned`: the learning rate of each strategy and cell with the best mean final value of
    `metric` on the validation split. Ties go to the smaller rate."""
    if frame.is_empty():
        return frame
    cell = [c for c in ("cell", "strategy") if c in frame.columns]
    last = frame.filter(
        (pl.col("split") == "validation")
        & (pl.col("slice") == "all")
        & (pl.col("step") == pl.col("step").max().over("run"))
    )
    best = (
        last.group_by([*cell, "lr"])
        .agg(pl.col(metric).mean().fill_nan(None))
        .sort(metric, "lr", descending=[True, False], nulls_last=True)
        .group_by(cell, maintain_order=True)
        .agg(pl.col("lr").first().alias("tuned_lr"))
    )
    return frame.join(best, on=cell, how="left").with_columns(
        tuned=pl.col("lr") == pl.col("tuned_lr")
    )


def load_or_example(root: str | Path | None = None) -> tuple[pl.DataFrame, str]:
    """The runs of a store (default: the folder named by RECAST_STORE, else `runs`), or the
    packaged example when it is empty; with a label that says which."""
    folder = Path(root if root is not None else os.environ.get("RECAST_STORE", "runs"))
    frame = Store(folder).load() if folder.is_dir() else pl.DataFrame()
    if not frame.is_empty():
        return mark_tuned(frame), f"your store: {folder} ({frame['run'].n_unique()} runs)"
    if not EXAMPLE.exists():
        return pl.DataFrame(), "no runs yet: recast run --preset quick"
    return mark_tuned(pl.read_parquet(EXAMPLE)), (
        f"packaged example, not your data; regenerate it with: {EXAMPLE_COMMAND}"
    )


def _provenance() -> dict[str, str]:
    return {
        "recast": version("recast-workbench"),
        "torch": torch.__version__,
        "polars": pl.__version__,
        "python": platform.python_version(),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fsync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
