"""Tables that somebody saved: CSV or JSON, read within bounds."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from workbench.store.files import read_regular

_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How files begin that Polars would unpack, to whatever size: gzip, zstd, zlib."""


def read_table(path: Path, most: int) -> pl.DataFrame:
    """The rows of a file of at most `most` bytes: JSON where it begins like JSON, else CSV.

    Raises ValueError, one phrase, where it is no such file or no table.
    """
    try:
        content = read_regular(path, most)
        if content.startswith(_PACKED):
            raise ValueError("packed; unpack it first")
        read = pl.read_json if content.lstrip()[:1] in (b"[", b"{") else pl.read_csv
        return read(io.BytesIO(content), infer_schema_length=None)
    except (OSError, ValueError, pl.exceptions.PolarsError) as problem:
        reason = getattr(problem, "strerror", None) or " ".join(str(problem).split())[:120]
        raise ValueError(f"cannot be read ({reason})") from None
