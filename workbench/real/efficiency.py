"""What an update costs on a real model, as `recast lm efficiency` printed it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from workbench.errors import UserError

EFFICIENCY = (
    "strategy",
    "prefix",
    "group",
    "prompt_tokens",
    "micro_rows",
    "mfu",
    "ratio",
    "step_ratio",
    "token_ratio",
    "memory_ratio",
)

LARGEST = 100_000_000


def read_efficiency(source: str) -> pl.DataFrame:
    """Rows that `recast lm efficiency --format json` (or csv) printed into a file.

    Raises UserError, one line, when it cannot be read or lacks a column.
    """
    path = Path(source)
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise ValueError(f"expected a regular file of at most {LARGEST:,} bytes")
        frame = pl.read_csv(path) if path.suffix == ".csv" else pl.read_json(path)
    except (OSError, ValueError, pl.exceptions.PolarsError) as problem:
        reason = " ".join(str(problem).split())[:120]
        raise UserError(f"--efficiency {source!r}: cannot be read ({reason})") from None
    lacking = [name for name in EFFICIENCY if name not in frame.columns]
    if lacking:
        raise UserError(
            f"--efficiency {source!r}: lacks the column {lacking[0]}; expected what "
            "`recast lm efficiency --format json` prints"
        )
    return frame
