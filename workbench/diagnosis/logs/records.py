"""Records that hold several rollouts, taken apart into rows: tables in JSON, columns in a line."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from workbench.diagnosis.logs.layout import LogRow

REWARDS = ("reward", "rewards", "score", "scores")


def is_table(row: LogRow) -> bool:
    """Whether a record is a table: wandb's `{"columns", "data"}`."""
    return isinstance(row.get("columns"), list) and isinstance(row.get("data"), list)


def flat(row: LogRow) -> Iterator[LogRow]:
    """The rows of a record: of a table its rows, of columns in a line one row per entry, of a row
    itself."""
    if is_table(row):
        columns = [str(name) for name in row["columns"]]
        for cells in row["data"]:
            if isinstance(cells, list) and len(cells) == len(columns):
                yield dict(zip(columns, cells, strict=True))
        return
    if isinstance(row.get("_value"), list) and "table" in str(row.get("_type", "")):
        yield from (one for one in row["_value"] if isinstance(one, dict))
        return
    many = entries(row)
    if not many:
        yield row
        return
    lists = {name: v for name, v in row.items() if isinstance(v, list) and len(v) == many}
    for place in range(many):
        yield {**row, **{name: cells[place] for name, cells in lists.items()}}


def entries(row: LogRow) -> int:
    """How many rollouts a line of columns holds; 0 where it is one rollout."""
    for name, cells in row.items():
        if name.lower() not in REWARDS or not isinstance(cells, list):
            continue
        if cells and all(not isinstance(cell, (list, dict)) for cell in cells):
            return len(cells)
    for name in ("prompt", "completion", "prompts", "completions", "responses"):
        cells = row.get(name)
        if isinstance(cells, list) and len(cells) > 1 and isinstance(row.get("step"), list):
            return len(cells)
    return 0


def documents(whole: Any) -> Iterator[LogRow]:
    """The records of a JSON document: an object, or the objects of an array."""
    if isinstance(whole, dict):
        yield whole
    elif isinstance(whole, list):
        yield from (one for one in whole if isinstance(one, dict))


def trackio(path: Path) -> Iterator[LogRow]:
    """The tables of a trackio database, opened to read only. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        for step, metrics in database.execute("SELECT step, metrics FROM metrics ORDER BY id"):
            try:
                said = json.loads(metrics)
            except (ValueError, TypeError, RecursionError):
                continue
            for value in said.values() if isinstance(said, dict) else ():
                if isinstance(value, dict) and isinstance(value.get("_value"), list):
                    for row in flat(value):
                        yield {"step": step, **row}


__all__ = ["documents", "entries", "flat", "is_table", "trackio"]
