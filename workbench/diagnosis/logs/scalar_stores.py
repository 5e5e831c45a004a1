"""Scalars in a tracker's own store: trackio's and MLflow's databases, MLflow's files.

MLflow keeps `mlruns/<experiment>/<run>/metrics/<name>`, a line `<time> <value> <step>` for each
value, or the table `metrics` of a database. trackio keeps the scalars of a log call as JSON.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from workbench.diagnosis.logs.packed import unpacked
from workbench.store.files import walked

Named = tuple[str, dict[str, Any]]
"""The name of a run, and a row with its step and scalars."""

_METRIC = re.compile(rb"^\d{10,16} [-+0-9.eEinfaN]+ -?\d{1,15}\s*$")


def stored_scalars(path: Path) -> tuple[str, list[Named]]:
    """Whose database it is, and its scalars; it is opened to read only. Raises sqlite3.Error for a
    database of something else."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        columns = {str(row[1]) for row in database.execute("PRAGMA table_info(metrics)")}
        if {"key", "value", "step", "run_uuid"} <= columns:
            return "MLflow", list(_mlflow(database))
        return "trackio", list(_trackio(database))


def _mlflow(database: sqlite3.Connection) -> Iterator[Named]:
    # A metric may be logged again at a step: the last time counts.
    rows = database.execute("SELECT run_uuid, step, key, value FROM metrics ORDER BY timestamp")
    for run, step, key, value in rows:
        yield str(run), {"step": step, str(key): value}


def _trackio(database: sqlite3.Connection) -> Iterator[Named]:
    rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id")
    for run, step, metrics in rows:
        try:
            said = json.loads(metrics)
        except (ValueError, TypeError, RecursionError):
            continue
        if isinstance(said, dict):
            own = {
                name: value for name, value in said.items() if name != "step" or _is_number(value)
            }
            yield str(run), {"step": step, **own}


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def is_metric_file(path: Path, line: bytes) -> str:
    """The metric of a file of MLflow whose first line this is; "" for any other file."""
    parts = path.parts
    if not _METRIC.match(line) or "metrics" not in parts[:-1]:
        return ""
    return "/".join(parts[len(parts) - parts[::-1].index("metrics") :])


def metric_rows(path: Path, metric: str) -> Iterator[Named]:
    """The values of a metric by step, with the name of its run's folder."""
    run = path.parents[metric.count("/") + 1].name
    with unpacked(path) as stream:
        for line in iter(lambda: stream.readline(1000), b""):
            if _METRIC.match(line):
                _, value, step = line.split()
                yield run, {"step": int(step), metric: float(value)}


def metric_files(folder: Path) -> list[Path]:
    """The metrics of the runs of MLflow below a folder."""
    found: list[Path] = []
    for run in sorted(here for here, _, names in walked(folder) if "meta.yaml" in names):
        inside = (here / name for here, _, names in walked(run / "metrics") for name in names)
        found += sorted(one for one in inside if one.is_file())
    return found


__all__ = ["is_metric_file", "metric_files", "metric_rows", "stored_scalars"]
