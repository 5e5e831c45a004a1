"""Rollouts in SQLite databases: trackio's, and any table with a prompt or a group and a reward."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from workbench.diagnosis.logs.column_values import plain_name
from workbench.diagnosis.logs.formats.generic import FORMAT as GENERIC
from workbench.diagnosis.logs.layout import LogRow
from workbench.diagnosis.logs.records import flat


class NoTableError(Exception):
    """A database without a table of rollouts; the text says what it has."""


def database_rows(path: Path) -> Iterator[LogRow]:
    """The rollouts of a database, opened to read only. Raises sqlite3.Error, NoTableError."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
        tables = [str(name) for (name,) in names]
        if "metrics" in tables and {"step", "metrics"} <= set(_columns(database, "metrics")):
            yield from _trackio(database)
            return
        found = [name for name in tables if _holds_rollouts(_columns(database, name))]
        if not found:
            shown = ", ".join(tables[:5]) or "none"
            raise NoTableError(f"a database whose tables hold no rollouts ({shown})")
        largest = max(found, key=lambda name: _count(database, name))
        columns = _columns(database, largest)
        for cells in database.execute(f"SELECT * FROM {_quoted(largest)}"):
            yield dict(zip(columns, cells, strict=True))


def _trackio(database: sqlite3.Connection) -> Iterator[LogRow]:
    """The tables of a trackio database."""
    for step, metrics in database.execute("SELECT step, metrics FROM metrics ORDER BY id"):
        try:
            said = json.loads(metrics)
        except (ValueError, TypeError, RecursionError):
            continue
        for value in said.values() if isinstance(said, dict) else ():
            if isinstance(value, dict) and isinstance(value.get("_value"), list):
                for row in flat(value):
                    yield {"step": step, **row}


def _holds_rollouts(columns: list[str]) -> bool:
    low = {plain_name(name) for name in columns}
    own = {*GENERIC.names["prompt"], *GENERIC.names["group"]}
    return bool(low & own) and bool(low & set(GENERIC.names["reward"]))


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in database.execute(f"PRAGMA table_info({_quoted(table)})")]


def _count(database: sqlite3.Connection, table: str) -> int:
    return int(database.execute(f"SELECT COUNT(*) FROM {_quoted(table)}").fetchone()[0])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


__all__ = ["NoTableError", "database_rows"]
