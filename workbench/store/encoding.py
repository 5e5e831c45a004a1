"""A run as a Parquet file and back: rows, and the configuration and provenance in its metadata."""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch

from recast.ledger import RunRecord
from workbench.store.arithmetic import arithmetic
from workbench.version import version


def config_of(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Full configuration and provenance inside a run's file."""
    metadata = pl.read_parquet_metadata(path)
    return json.loads(metadata["config"]), json.loads(metadata["provenance"])


def encoded(key: str, record: RunRecord, provenance: Mapping[str, Any]) -> bytes:
    """The bytes of a run's file: its rows, with every plain field of its configuration beside."""
    frame = pl.DataFrame(list(record.rows), infer_schema_length=None).with_columns(
        pl.lit(key).alias("run"),
        *(_column(name, value) for name, value in flat_config(record.config).items()),
        *(pl.lit(v, dtype=pl.Float64).alias(k) for k, v in record.world.items()),
        pl.lit(record.diverged_at, dtype=pl.Int64).alias("diverged_at"),
    )
    return _parquet(frame, record.config, provenance)


def _column(name: str, value: Any) -> pl.Expr:
    """A constant column; every whole number has the same width, so that files agree."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return pl.lit(value, dtype=pl.Int64 if whole else None).alias(name)


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as columns: plain fields, and `world.noise` for `world_spec: {noise}`."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and name.endswith("_spec"):
            for leaf, inner in value.items():
                plain = inner is None or isinstance(inner, bool | int | float | str)
                flat[f"{name.removesuffix('_spec')}.{leaf}"] = inner if plain else json.dumps(inner)
        elif not isinstance(value, Mapping):
            flat[name] = value
    return flat


def _parquet(
    frame: pl.DataFrame, config: Mapping[str, Any], provenance: Mapping[str, Any]
) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(
        buffer,
        compression="zstd",
        metadata={
            "config": json.dumps(config, sort_keys=True),
            "provenance": json.dumps(provenance, sort_keys=True),
        },
    )
    return buffer.getvalue()


def migrated(key: str, frame: pl.DataFrame) -> bytes:
    """Schema 1 kept configuration and provenance as columns of JSON."""
    config = json.loads(frame["config"][0])
    provenance = json.loads(frame["provenance"][0])
    flat = {k: v for k, v in flat_config(config).items() if k not in frame.columns}
    frame = frame.drop("config", "provenance", "schema_version").with_columns(
        pl.lit(key).alias("run"), *(_column(k, v) for k, v in flat.items())
    )
    return _parquet(frame, config, {**provenance, "migrated_from_schema": 1})


def versions() -> dict[str, str]:
    """What every run says of the software and the machine that made it."""
    return {
        "recast": version(),
        "torch": torch.__version__,
        "polars": pl.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **arithmetic(),
    }
