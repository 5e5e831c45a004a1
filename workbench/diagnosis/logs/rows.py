"""The rows of a file as blocks of a table, without ever holding the whole file.

JSON lines are parsed a block at a time, only the columns that are wanted; a block with anything odd
in it is read line by line, so that whatever cannot be read is noted with its row and skipped, and
what follows is still read.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workbench.diagnosis.logs import tensors
from workbench.diagnosis.logs.column_names import IMAGES
from workbench.diagnosis.logs.column_values import frame_of, is_text
from workbench.diagnosis.logs.csv_cells import csv_rows
from workbench.diagnosis.logs.databases import NoTableError, database_rows
from workbench.diagnosis.logs.file_kinds import ARROW_FILE, FileKind
from workbench.diagnosis.logs.layout import LogRow, Reader
from workbench.diagnosis.logs.packed import DAMAGED, unpacked
from workbench.diagnosis.logs.printed_rollouts import printed_rows
from workbench.diagnosis.logs.problems import CUT_LINE, MOST_COLUMNS, Problems, too_wide
from workbench.diagnosis.logs.records import (
    REWARDS,
    documents,
    entries,
    flat,
    is_table,
    is_whole,
    nested,
)
from workbench.diagnosis.logs.shown_rollouts import shown_rows
from workbench.diagnosis.logs.signs import compact, has_tokens
from workbench.diagnosis.logs.training_data import with_training

Numbered = tuple[int, LogRow]

BATCH = 10_000
BLOCK = 16_000_000
LONGEST_LINE = 32_000_000
LARGEST_DOCUMENT = 1_000_000_000
SAMPLE = 64
_BETWEEN = re.compile(r"[\s,]*")
EVENTS = 50
"""Records of other kinds that may stand before a rollout in a file of events."""


def first_row(path: Path, kind: FileKind, tells: Callable[[LogRow], bool]) -> LogRow | None:
    """The first record of a file that tells what it is, to recognise it by, of its first
    `EVENTS`; the first of all where none does, None where there is none."""
    if kind == "parquet":
        try:
            lazy = pl.scan_parquet(path, glob=False)
            schema = lazy.collect_schema()
            if any(kind.is_nested() for kind in schema.values()):
                row = next(lazy.head(1).collect().iter_rows(named=True), {})
                if is_whole(row):
                    return row
            return dict.fromkeys(schema.names())
        except (pl.exceptions.PolarsError, OSError):
            return {}
    first: LogRow | None = None
    for _, row in islice(_records(path, "", kind, Problems()), EVENTS):
        if tells(row):
            return row
        first = row if first is None else first
    return first


def blocks(
    path: Path, name: str, kind: FileKind, reader: Reader, first: LogRow, problems: Problems
) -> Iterator[pl.DataFrame]:
    """The rows of a file as tables of the columns that the reader wants, text or typed, with their
    numbers from 1 (a text file's line) as `row`."""
    if kind == "parquet" and reader.form.unpack is None and not is_whole(first):
        yield from _parquet(path, name, reader, problems)
    elif kind == "jsonl" and reader.form.unpack is None and not _whole_rows(first):
        yield from _jsonl(path, name, reader, problems)
    else:
        yield from _tables(_records(path, name, kind, problems), reader, text=kind == "csv")


def _whole_rows(first: LogRow) -> bool:
    """Whether rows must be looked at one by one: tables, rollouts one level down, conversations,
    rewards in parts, and lists per token."""
    return is_table(first) or bool(nested(first)) or has_tokens(first) or is_whole(first)


def _records(path: Path, name: str, kind: FileKind, problems: Problems) -> Iterator[Numbered]:
    if kind == "jsonl":
        with unpacked(path) as stream:
            lines = _while_sound(lambda: stream.readline(LONGEST_LINE), name, problems)
            yield from _json_rows(lines, 0, name, problems)
    elif kind == "csv":
        with unpacked(path) as stream:
            yield from csv_rows(stream, LONGEST_LINE, name, problems)
            yield from _while_sound(lambda: stream.read(1), name, problems)  # type: ignore[misc]
    elif kind == "printed":
        yield from printed_rows(path, LONGEST_LINE, name, problems)
    elif kind in ("marked", "drawn"):
        yield from shown_rows(path, kind, name, problems)
    elif kind == "parquet":
        for place, row in enumerate(pl.read_parquet(path, glob=False).iter_rows(named=True)):
            yield place + 1, row
    elif kind == "arrow":
        yield from _arrow(path, name, problems)
    else:
        yield from enumerate(_whole(path, name, kind, problems), start=1)


def _arrow(path: Path, name: str, problems: Problems) -> Iterator[Numbered]:
    """The rows of an Arrow file or stream, as `datasets` saves them."""
    try:
        with path.open("rb") as stream:
            is_file = stream.read(len(ARROW_FILE)) == ARROW_FILE
        read = pl.read_ipc if is_file else pl.read_ipc_stream
        for place, row in enumerate(read(path).iter_rows(named=True)):
            yield place + 1, row
    except (pl.exceptions.PolarsError, OSError) as problem:
        problems.file(name, f"damaged Arrow data ({str(problem).splitlines()[0][:80]})")


def _width(row: LogRow) -> int:
    """Columns of a record, or of the table that it is."""
    return max(len(row), len(row["columns"]) if is_table(row) else 0)


def _while_sound(more: Callable[[], bytes], name: str, problems: Problems) -> Iterator[bytes]:
    """Pieces of a file until it ends, or until its packing is damaged, which is noted."""
    try:
        while piece := more():
            yield piece
    except DAMAGED:
        problems.file(name, "damaged packing; what stands before is read")


def _whole(path: Path, name: str, kind: FileKind, problems: Problems) -> Iterator[LogRow]:
    """The records of a file that can only be read at once."""
    try:
        if kind == "sqlite":
            yield from database_rows(path)
        elif kind == "torch":
            yield from documents(with_training(path, problems))
        else:
            with unpacked(path) as stream:
                content = stream.read(LARGEST_DOCUMENT + 1)
            if len(content) > LARGEST_DOCUMENT:
                problems.file(name, f"a JSON document of more than {LARGEST_DOCUMENT:,} bytes")
                return
            rows = _records_of(content.decode("utf-8-sig", "replace"), name, problems)
            del content
            if not rows:
                problems.file(name, "a JSON array without objects")
            if (wide := max(map(_width, rows), default=0)) > MOST_COLUMNS:
                problems.file(name, too_wide(wide))
                return
            yield from rows
    except (tensors.NoTensors, NoTableError) as problem:
        problems.file(name, str(problem))
    except sqlite3.Error:
        problems.file(name, "a damaged database")
    except (ValueError, RecursionError, OSError, *DAMAGED):
        problems.file(name, "no valid JSON")


def _records_of(text: str, name: str, problems: Problems) -> list[LogRow]:
    """The records of a JSON document; also of one that was cut, and of objects one after the
    other. Raises ValueError where not one value is whole."""
    try:
        return list(documents(json.loads(text)))
    except ValueError:
        pass
    decoder, found, at = json.JSONDecoder(), list[Any](), len(text) - len(text.lstrip())
    at += text.startswith("[", at)
    while True:
        between = _BETWEEN.match(text, at)
        at = between.end() if between else at
        if at >= len(text) or text[at] == "]":
            break
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            if not found:
                raise
            problems.file(name, "a JSON document that is cut or broken; what stands before is read")
            break
        found.append(value)
    return [row for value in found for row in documents(value)]


def _jsonl(path: Path, name: str, reader: Reader, problems: Problems) -> Iterator[pl.DataFrame]:
    number = 0
    with unpacked(path) as stream:
        pieces, rest = _while_sound(lambda: stream.read(BLOCK), name, problems), b""
        for more in chain(pieces, [b""]):
            cut = more.rfind(b"\n") + 1
            if more and not cut:
                rest += more
                if len(rest) > LONGEST_LINE:
                    number += 1
                    problems.row(name, number, f"a line of more than {LONGEST_LINE:,} bytes")
                    rest = _after_newline(pieces)
                continue
            block, rest = b"".join((rest, memoryview(more)[:cut])), more[cut:]
            if block:
                if not number:
                    block = block.removeprefix(b"\xef\xbb\xbf")
                ends = np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n"))
                lines = int(ends) + (not block.endswith(b"\n"))
                yield from _json_block(block, lines, number, name, reader, problems)
                number += lines


def _after_newline(pieces: Iterator[bytes]) -> bytes:
    """Skip to the end of a line; what was read beyond it."""
    for more in pieces:
        cut = more.find(b"\n")
        if cut >= 0:
            return more[cut + 1 :]
    return b""


def _json_block(
    block: bytes, lines: int, before: int, name: str, reader: Reader, problems: Problems
) -> Iterator[pl.DataFrame]:
    """One block of whole lines: at once where it is plain, else line by line."""
    _sample(block, lines, reader)
    wanted = reader.wanted
    if wanted:
        try:
            raw = pl.read_ndjson(block, schema=dict.fromkeys(wanted, pl.String))
        except (pl.exceptions.PolarsError, ValueError):
            raw = pl.DataFrame()
        if raw.height == lines and not reader.lacking(raw):
            yield raw.with_columns(row=pl.int_range(before + 1, before + lines + 1, dtype=pl.Int64))
            return
    rows = _json_rows(block.splitlines(keepends=True), before, name, problems)
    yield from _tables(rows, reader)


def _sample(block: bytes, lines: int, reader: Reader) -> None:
    """Meet the columns of some lines, evenly spaced over the block."""
    at, step = 0, max(1, len(block) // SAMPLE)
    rows = []
    while at < len(block):
        end = block.find(b"\n", at)
        end = len(block) if end < 0 else end
        try:
            row = json.loads(block[at:end])
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and _width(row) <= MOST_COLUMNS:
            rows.append(row)
        at = max(end, at + step)
        found = block.find(b"\n", at - 1)
        if found < 0:
            break
        at = found + 1
    meet(rows, reader)


def meet(rows: Iterable[LogRow], reader: Reader, text: bool = False) -> None:
    """Tell the reader which columns these rows have, and which of them hold numbers."""
    found: dict[str, bool | None] = {}
    for row in rows:
        for name, value in row.items():
            if not is_text(name):
                continue
            if value is None or value == "":
                found.setdefault(name, None)
                continue
            is_number = isinstance(value, (bool, int, float))
            if text and isinstance(value, str):
                is_number = _is_number(value)
            found[name] = is_number and found.get(name) is not False
    reader.learn(found)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return value.strip().lower() in ("true", "false")
    return True


def _tables(
    records: Iterable[Numbered], reader: Reader, text: bool = False
) -> Iterator[pl.DataFrame]:
    """Rows of records as tables, `BATCH` at a time."""
    unpack = reader.form.unpack
    batch: list[Numbered] = []
    for number, record in records:
        for row in flat(record) if unpack is None else unpack(record):
            batch.append((number, compact(row)))
            if len(batch) >= BATCH:
                yield _table(batch, reader, text)
                batch = []
    if batch:
        yield _table(batch, reader, text)


def _table(batch: list[Numbered], reader: Reader, text: bool) -> pl.DataFrame:
    rows = [row for _, row in batch]
    meet(rows, reader, text)
    numbers = pl.DataFrame({"row": [number for number, _ in batch]}, schema={"row": pl.Int64})
    return numbers.with_columns(frame_of(rows, reader.wanted).get_columns())


def _json_rows(
    lines: Iterable[bytes], before: int, name: str, problems: Problems
) -> Iterator[Numbered]:
    number, long = before, False
    for line in lines:
        if long:
            long = not line.endswith(b"\n")
            continue
        number += 1
        if len(line) > LONGEST_LINE or (len(line) == LONGEST_LINE and not line.endswith(b"\n")):
            problems.row(name, number, f"a line of more than {LONGEST_LINE:,} bytes")
            long = not line.endswith(b"\n")
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
            what = "no UTF-8 text" if bad else CUT_LINE if cut else "no valid JSON"
            problems.row(name, number, what)
            continue
        rows = row if isinstance(row, list) else [row]
        if not rows or not all(isinstance(one, dict) for one in rows):
            problems.row(name, number, "no JSON object")
            continue
        if (wide := max(map(_width, rows))) > MOST_COLUMNS:
            problems.row(name, number, too_wide(wide))
            continue
        for one in rows:
            yield number, one


def _parquet(path: Path, name: str, reader: Reader, problems: Problems) -> Iterator[pl.DataFrame]:
    number = 0
    try:
        lazy = pl.scan_parquet(path, glob=False)
        schema = lazy.collect_schema()
        if len(schema) > MOST_COLUMNS:
            problems.file(name, too_wide(len(schema)))
            return
        reader.learn(
            {
                column: kind.is_numeric()
                or kind == pl.Boolean
                or (None if kind == pl.Null else False)
                for column, kind in schema.items()
            }
        )
        here = [c for c in reader.wanted if c in schema and not _is_picture(c, schema[c])]
        for frame in lazy.select(here).collect_batches(chunk_size=BATCH, maintain_order=True):
            for part in frame.iter_slices(BATCH):
                if _has_lists(part):
                    rows = enumerate(part.iter_rows(named=True), start=number + 1)
                    yield from _tables(rows, reader)
                else:
                    yield part.with_columns(
                        row=pl.int_range(number + 1, number + part.height + 1, dtype=pl.Int64)
                    )
                number += part.height
    except (pl.exceptions.PolarsError, OSError) as problem:
        reason = str(problem).splitlines()[0][:120]
        problems.file(name, f"damaged parquet after row {number} ({reason})")


def _is_picture(column: str, kind: pl.DataType) -> bool:
    """Whether a column holds images themselves, not their names."""
    return kind == pl.Binary or (
        column.lower() in IMAGES and kind.is_nested() and kind != pl.List(pl.String)
    )


def _has_lists(frame: pl.DataFrame) -> bool:
    """Whether rows must be looked at one by one: their rewards are lists."""
    lists = [c for c, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array)]
    if any(column.lower() in REWARDS for column in lists):
        return True
    return bool(frame.height) and entries(frame.row(0, named=True)) > 1
