"""Files as they are, packed (gzip, bzip2, xz, zstd) or in UTF-16, read as one stream of UTF-8."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError)
"""What a stream raises that ends early or whose sums are wrong, once all before it was read."""

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
"""First bytes of each packing."""

SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zstd")

_WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_PIECE, _SMALL = 1 << 18, 1 << 16


def packing_of(path: Path) -> str:
    """How a file is packed, a value of `MAGIC`; "" where it is not. Raises OSError."""
    with path.open("rb") as stream:
        head = stream.read(8)
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, a piece at a time unpacked and recoded from UTF-16. Raises OSError; reading
    raises what `DAMAGED` lists, after everything that stands before the damage. A file of no bytes
    is not opened: those of the system's own (/proc/kmsg) may keep who reads them waiting."""
    if not path.stat().st_size:
        yield io.BytesIO()
        return
    packing = packing_of(path)
    with path.open("rb") as plain:
        inner = _opened(plain, packing) if packing else plain
        source = io.BufferedReader(_Sound(inner), _PIECE) if packing else plain
        wide = _WIDE.get(source.peek(2)[:2])
        stream = io.BufferedReader(_Recoded(source, wide), _PIECE) if wide else source
        yield cast(BinaryIO, stream)


def _opened(plain: BinaryIO, packing: str) -> BinaryIO:
    """The unpacked bytes of a stream."""
    if packing == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=plain, mode="rb"))
    if packing == "bzip2":
        return cast(BinaryIO, bz2.BZ2File(plain))
    if packing == "xz":
        return cast(BinaryIO, lzma.LZMAFile(plain))
    # Python has a reader of zstd from 3.14 on; pyarrow, which Streamlit needs, has one before.
    from pyarrow import CompressedInputStream

    return cast(BinaryIO, CompressedInputStream(plain, "zstd"))


class _Pieces(io.RawIOBase):
    """A stream made of pieces of any length."""

    def __init__(self, more: Callable[[], bytes]) -> None:
        self.more, self.left = more, b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        """As `io.RawIOBase`."""
        if not self.left:
            self.left = self.more()
        size = min(len(target), len(self.left))
        target[:size] = self.left[:size]
        self.left = self.left[size:]
        return size


class _Sound(_Pieces):
    """A packed stream that ends where it is damaged, and says so only when read beyond: a reader
    of large blocks loses nothing that stands before."""

    def __init__(self, inner: BinaryIO) -> None:
        super().__init__(self._next)
        self.inner = inner
        self.damage: Exception | None = None

    def _next(self) -> bytes:
        if self.damage is not None:
            raise EOFError(str(self.damage))
        try:
            return self.inner.read1(_SMALL)  # type: ignore[attr-defined, no-any-return]
        except (*DAMAGED, OSError, ValueError) as problem:
            self.damage = problem
            return b""


class _Recoded(_Pieces):
    """A stream of another encoding as UTF-8, without its byte order mark."""

    def __init__(self, inner: BinaryIO, encoding: str) -> None:
        super().__init__(self._next)
        self.inner = inner
        self.decoder = codecs.getincrementaldecoder(encoding)("replace")
        self.begun = False

    def _next(self) -> bytes:
        while piece := self.inner.read(_PIECE):
            text = self.decoder.decode(piece)
            if not self.begun:
                self.begun, text = True, text.removeprefix("\ufeff")
            if text:
                return text.encode("utf-8", "replace")
        return b""


def unpacked_name(name: str) -> str:
    """A file's name without the suffix of its packing."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name


def plain_suffix(name: str) -> str:
    """The suffix in lower case, that of the packed file where the name ends in one of
    `SUFFIXES`."""
    return Path(unpacked_name(name.lower())).suffix


__all__ = ["DAMAGED", "MAGIC", "SUFFIXES", "packing_of", "plain_suffix", "unpacked",
           "unpacked_name"]  # fmt: skip
