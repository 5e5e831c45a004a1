"""Rows of CSV, also Excel's, and lists and objects in their cells, as JSON, Python or numpy write
them."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

from workbench.diagnosis.logs.column_values import plain_name
from workbench.diagnosis.logs.file_kinds import SEPARATORS
from workbench.diagnosis.logs.layout import LogRow
from workbench.diagnosis.logs.problems import MOST_COLUMNS, Problems, too_wide

LONGEST = 1_000_000
"""Characters of a cell that is looked into."""

_DECIMAL = re.compile(r"-?[0-9]+,[0-9]+")
_REWARDS = re.compile(r"(?:^|_)(?:rewards?|scores?)$")
_ARRAY = re.compile(r"\[\s*[-+0-9.eE]+(?:\s+[-+0-9.eE]+)*\s*\]")


def csv_rows(
    stream: BinaryIO, longest: int, name: str, problems: Problems
) -> Iterator[tuple[int, LogRow]]:
    """The rows of a table with a header and their line numbers; longest: bytes of a field."""
    csv.field_size_limit(longest)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
    try:
        header = text.readline(longest)
        lines = chain([header], text)
        yield from _rows(csv.reader(lines, delimiter=_separator(header)), name, problems)
    finally:
        text.detach()


def _separator(header: str) -> str:
    """What stands between the fields of a header: the most frequent of `SEPARATORS`."""
    return max(SEPARATORS, key=header.count)


def _rows(reader: Any, name: str, problems: Problems) -> Iterator[tuple[int, LogRow]]:
    header: list[str] = []
    comma = reader.dialect.delimiter != ","
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as problem:
            problems.row(name, reader.line_num, f"no valid CSV ({problem})")
            continue
        if fields is None:
            return
        if not header:
            if len(fields) > MOST_COLUMNS:
                problems.file(name, too_wide(len(fields)))
                return
            header = [field.strip() for field in fields]
        elif not fields:
            continue
        elif len(fields) != len(header):
            what = f"{len(fields)} fields; the header has {len(header)}"
            problems.row(name, reader.line_num, what)
        else:
            if comma:
                fields = [
                    one.replace(",", ".") if _DECIMAL.fullmatch(one) else one for one in fields
                ]
            yield reader.line_num, with_lists(dict(zip(header, fields, strict=True)))


def with_lists(row: LogRow) -> LogRow:
    """The row with rewards that are a list or an object as such, and beside a list of them every
    other cell that is a list of as many; the row itself where the rewards are no such text."""
    found: dict[str, Any] = {}
    for name, cell in row.items():
        if isinstance(cell, str) and cell[:1] in ("[", "{") and _REWARDS.search(plain_name(name)):
            value = _value(cell)
            if value is not None:
                found[name] = value
    many = {len(value) for value in found.values() if isinstance(value, list)}
    if many:
        for name, cell in row.items():
            if name not in found and isinstance(cell, str) and cell[:1] == "[":
                value = _value(cell)
                if isinstance(value, list) and len(value) in many:
                    found[name] = value
    return {**row, **found} if found else row


def _value(cell: str) -> Any:
    """The list or object that a text writes; None for any other text."""
    if len(cell) > LONGEST:
        return None
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        value = _numbers(cell) if _ARRAY.fullmatch(cell) else _literal(cell)
    return value if isinstance(value, (list, dict)) and value else None


def _numbers(cell: str) -> list[float] | None:
    try:
        return [float(one) for one in cell.strip("[] \n").split()]
    except ValueError:
        return None


def _literal(cell: str) -> Any:
    """Constants in Python's notation: nothing is run."""
    try:
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


__all__ = ["csv_rows", "with_lists"]
