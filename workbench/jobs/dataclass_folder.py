"""A dataclass with tables in it as a folder: JSON for what is plain, one Arrow file per table.

Read back by the types that the class declares, so that nothing is built that it does not name.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import polars as pl

NOTE = "record.json"
LARGEST = 50_000_000
_Record = TypeVar("_Record")


def save_record(record: Any, folder: Path) -> None:
    """Write a dataclass instance of plain values, lists, mappings, dataclasses and tables."""
    tables: list[pl.DataFrame] = []
    note = json.dumps(_plain(record, tables))
    for place, table in enumerate(tables):
        # Packed: a reader that maps the file holds its pages beside the table.
        table.write_ipc(folder / f"{place}.arrow", compression="lz4")
    (folder / NOTE).write_text(note, encoding="utf-8")


def load_record(kind: type[_Record], folder: Path) -> _Record:
    """What `save_record` wrote. Raises ValueError for a note that is no such record."""
    if (folder / NOTE).stat().st_size > LARGEST:
        raise ValueError(f"{folder}: expected a note of at most {LARGEST:,} bytes")
    note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    found = _built(kind, note, folder)
    assert isinstance(found, kind)
    return found


def plain_of(record: Any) -> Any:
    """A dataclass instance without tables as plain data."""
    return _plain(record, [])


def built_from(kind: type[_Record], note: Any) -> _Record:
    """What `plain_of` made plain."""
    found = _built(kind, note, Path())
    assert isinstance(found, kind)
    return found


def _plain(value: Any, tables: list[pl.DataFrame]) -> Any:
    if isinstance(value, pl.DataFrame):
        tables.append(value)
        return len(tables) - 1
    if dataclasses.is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name), tables)
            for field in dataclasses.fields(value)
            if field.init
        }
    if isinstance(value, Mapping):
        return [[_plain(k, tables), _plain(v, tables)] for k, v in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one, tables) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a record")


def _built(kind: Any, note: Any, folder: Path) -> Any:
    """A value of a declared type from its note."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is pl.DataFrame:
        return _without_room_for_nulls(pl.read_ipc(folder / f"{int(note)}.arrow"))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _built(hints[name], part, folder) for name, part in note.items()})
    if origin in (Union, types.UnionType):
        options = [one for one in inner if one is not type(None)]
        return None if note is None else _built(options[0], note, folder)
    if origin is Counter:
        return Counter({_built(inner[0], k, folder): v for k, v in note})
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_built(inner[0], k, folder): _built(inner[1], v, folder) for k, v in note}
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_built(inner[0], one, folder) for one in note)
    if origin is tuple:
        return tuple(_built(own, one, folder) for own, one in zip(inner, note, strict=True))
    if origin in (set, frozenset):
        return origin(_built(inner[0], one, folder) for one in note)
    if origin is list or origin is Sequence:
        return [_built(inner[0], one, folder) for one in note]
    if origin is Literal:
        return note
    return kind(note) if kind in (bool, int, float, str, Path) and note is not None else note


def _without_room_for_nulls(table: pl.DataFrame) -> pl.DataFrame:
    """The same table; a column that says nothing takes no memory."""
    silent = [column for column in table if table.height and column.null_count() == table.height]
    return table.with_columns(pl.lit(None, one.dtype).alias(one.name) for one in silent)
