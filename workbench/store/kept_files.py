"""What a study keeps in a folder for itself, read again: damaged or foreign files are named."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from workbench.errors import UserError
from workbench.store.files import read_regular

Made = TypeVar("Made")
MOST = 1_000_000_000
"""Bytes of a table."""


def kept_note(path: Path, build: Callable[[Any], Made]) -> Made:
    """What `build` makes of a file of JSON. Raises UserError, one line, for any other file."""
    try:
        return build(json.loads(read_regular(path)))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise UserError(_damaged(path)) from None


def kept_table(path: Path, columns: Sequence[str] = ()) -> pl.DataFrame:
    """A file of parquet, with these columns alone if any are named. Raises UserError, one line, for
    any other file."""
    try:
        table = pl.read_parquet(io.BytesIO(read_regular(path, MOST)))
        return table.select(columns) if columns else table
    except (OSError, ValueError, pl.exceptions.PolarsError):
        raise UserError(_damaged(path)) from None


def _damaged(path: Path) -> str:
    return f"{path}: damaged; remove it, and the same command makes it anew"


__all__ = ["kept_note", "kept_table"]
