"""Tables that somebody saved: CSV or JSON, read within bounds."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from workbench.store.files import read_regular


def read_table(path: Path, most: int) -> pl.DataFrame:
    """The rows of a file of at most `most` bytes: JSON where it begins like JSON, else CSV.

    Raises ValueError, one phrase, where it is no such file or no table.
    """
    try:
        content = read_regular(path, most)
        read = pl.read_json if content.lstrip()[:1] in (b"[", b"{") else pl.read_csv
        return read(io.BytesIO(content), infer_schema_length=None)
    except (OSError, ValueError, pl.exceptions.PolarsError) as problem:
        reason = getattr(problem, "strerror", None) or " ".join(str(problem).split())[:120]
        raise ValueError(f"cannot be read ({reason})") from None
