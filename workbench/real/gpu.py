"""What `benchmarks/gpu.sh` measured on a GPU: the packaged results."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

BASELINE = "grpo"
PACKAGED = Path(__file__).parents[1] / "example" / "gpu.json"
COMMAND = "benchmarks/gpu.sh"
_CASE = ["model", "prompt_tokens", "prefix"]


@cache
def packaged() -> dict[str, Any]:
    """runs (machine, date, command), costs, left_out, simulator, end_to_end; see
    `benchmarks.gpu_package`."""
    found: dict[str, Any] = json.loads(PACKAGED.read_text(encoding="utf-8"))
    return found


def costs() -> pl.DataFrame:
    """One row per measured case, with ratios to GRPO's row of the same model, prompt and prefix:
    ratio (update seconds), step_ratio, token_ratio, memory_ratio and mfu_ratio (this one's over
    GRPO's, as the paper states it). Cases without a row of GRPO are left out."""
    table = pl.DataFrame(packaged()["costs"])
    base = table.filter(pl.col("strategy") == BASELINE)
    joined = table.join(base, on=_CASE, suffix="_base")
    times = {
        "ratio": "update_seconds",
        "step_ratio": "step_seconds",
        "token_ratio": "tokens",
        "memory_ratio": "peak_mib",
    }
    return joined.with_columns(
        *((pl.col(f"{c}_base") / pl.col(c)).alias(name) for name, c in times.items()),
        mfu_ratio=pl.col("mfu") / pl.col("mfu_base"),
    ).drop(pl.selectors.ends_with("_base"))


def provenance() -> str:
    """Card, date and command, in one line."""
    run = packaged()["runs"][-1]
    return f"{run['device']}, {run['date'][:10]}, {COMMAND}"
