"""Text files as they are or compressed with gzip, read as one stream of bytes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

GZIP = b"\x1f\x8b"
DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)
"""What a stream raises that ends early or whose sums are wrong."""


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, decompressed a piece at a time where it is gzip. Raises OSError; reading
    raises what `DAMAGED` lists."""
    with path.open("rb") as plain:
        if plain.read(2) != GZIP:
            plain.seek(0)
            yield plain
            return
        plain.seek(0)
        with gzip.GzipFile(fileobj=plain, mode="rb") as stream:
            yield cast(BinaryIO, stream)


def plain_suffix(name: str) -> str:
    """The suffix in lower case, that of the packed file where the name ends in .gz."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


__all__ = ["DAMAGED", "GZIP", "plain_suffix", "unpacked"]
