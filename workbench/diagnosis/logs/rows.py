"""Rows of a file as plain mappings, in batches, without ever holding the whole file.

Files are told apart by their first bytes, not by their name. Whatever cannot be read is noted with
its row and skipped; what follows is still read.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import polars as pl

from workbench.diagnosis.logs.problems import Problems

Kind = Literal["parquet", "jsonl", "csv"]
Row = dict[str, Any]
Batch = list[tuple[int, Row]]

BATCH = 10_000
LONGEST_LINE = 32_000_000
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "gzip-compressed", b"7z\xbc\xaf": "a 7z"}


def kind_of(path: Path, name: str, problems: Problems) -> Kind | None:
    """What a file holds by its first bytes; None, with a problem noted, for what is no table."""
    try:
        with path.open("rb") as stream:
            head = stream.read(65536)
    except (OSError, ValueError) as problem:
        problems.file(name, f"cannot be opened ({getattr(problem, 'strerror', None) or problem})")
        return None
    if not head.strip():
        problems.file(name, "the file is empty")
        return None
    if head.startswith(b"PAR1"):
        return "parquet"
    for magic, words in _ARCHIVES.items():
        if head.startswith(magic):
            problems.file(name, f"{words}; unpack it first")
            return None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        problems.file(name, "a JSON array; expected one JSON object per line (JSONL)")
        return None
    if text.startswith(b"{"):
        return "jsonl"
    line = text.split(b"\n", 1)[0]
    if b"\x00" in head or b"," not in line:
        problems.file(name, "neither parquet, JSONL nor CSV with a header")
        return None
    return "csv"


def batches(path: Path, name: str, kind: Kind, problems: Problems) -> Iterator[Batch]:
    """The rows of a file, each with its number from 1 (a text file's line), `BATCH` at a time."""
    readers = {"parquet": _parquet, "jsonl": _jsonl, "csv": _csv}
    yield from readers[kind](path, name, problems)


def _jsonl(path: Path, name: str, problems: Problems) -> Iterator[Batch]:
    with path.open("rb") as stream:
        yield from _filled(_json_rows(stream, name, problems))


def _json_rows(stream: Any, name: str, problems: Problems) -> Iterator[tuple[int, Row]]:
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        if not line.endswith(b"\n") and len(line) >= LONGEST_LINE:
            problems.row(name, number, f"a line of more than {LONGEST_LINE:,} bytes")
            while line and not line.endswith(b"\n"):
                line = stream.readline(LONGEST_LINE)
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as problem:
            cut = not line.endswith(b"\n")
            bad = isinstance(problem, UnicodeDecodeError)
            what = "no UTF-8 text" if bad else "a truncated line" if cut else "no valid JSON"
            problems.row(name, number, what)
            continue
        if not isinstance(row, dict):
            problems.row(name, number, "no JSON object")
            continue
        yield number, row


def _csv(path: Path, name: str, problems: Problems) -> Iterator[Batch]:
    csv.field_size_limit(LONGEST_LINE)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        yield from _filled(_csv_rows(csv.reader(stream), name, problems))


def _csv_rows(reader: Any, name: str, problems: Problems) -> Iterator[tuple[int, Row]]:
    header: list[str] = []
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as problem:
            problems.row(name, reader.line_num, f"no valid CSV ({problem})")
            continue
        if fields is None:
            return
        if not header:
            header = [field.strip() for field in fields]
        elif not fields:
            continue
        elif len(fields) != len(header):
            what = f"{len(fields)} fields; the header has {len(header)}"
            problems.row(name, reader.line_num, what)
        else:
            yield reader.line_num, dict(zip(header, fields, strict=True))


def _parquet(path: Path, name: str, problems: Problems) -> Iterator[Batch]:
    number = 0
    try:
        for frame in pl.scan_parquet(path, glob=False).collect_batches(
            chunk_size=BATCH, maintain_order=True
        ):
            for part in frame.iter_slices(BATCH):
                rows = part.iter_rows(named=True)
                yield [(number + place, row) for place, row in enumerate(rows, start=1)]
                number += part.height
    except (pl.exceptions.PolarsError, OSError) as problem:
        reason = str(problem).splitlines()[0][:120]
        problems.file(name, f"damaged parquet after row {number} ({reason})")


def _filled(rows: Iterable[tuple[int, Row]]) -> Iterator[Batch]:
    batch: Batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
