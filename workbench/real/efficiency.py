"""What an update costs on a real model, as `recast lm efficiency` printed it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from workbench.errors import UserError
from workbench.store.table_files import read_table

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
    try:
        frame = read_table(Path(source), LARGEST)
    except ValueError as problem:
        raise UserError(f"--efficiency {source!r}: {problem}") from None
    lacking = [name for name in EFFICIENCY if name not in frame.columns]
    if lacking:
        raise UserError(
            f"--efficiency {source!r}: lacks the column {lacking[0]}; expected what "
            "`recast lm efficiency --format json` prints"
        )
    return frame
