"""Every sweep that a store knows: running, interrupted, finished, by whomever it was started."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import polars as pl

from workbench.jobs.started_sweeps import Note, notes
from workbench.jobs.sweep_labels import labels_of
from workbench.store.records import sweep_record
from workbench.store.runs import Store

_log = logging.getLogger("recast")
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "name": pl.String,
    "title": pl.String,
    "status": pl.String,
    "strategies": pl.String,
    "runs": pl.Int64,
    "missing": pl.Int64,
    "failed": pl.Int64,
    "why": pl.String,
    "began": pl.Float64,
    "seconds": pl.Float64,
    "tags": pl.List(pl.String),
    "text": pl.String,
    "archived": pl.Boolean,
    "sweep": pl.String,
    "keys": pl.List(pl.String),
}


def recorded(store: Store) -> list[dict[str, Any]]:
    """Sweeps that a store has seen end: name, sweep, runs, failures; a record that cannot be read
    is left out and named on the log."""
    rows = []
    for path in sorted((store.root / "sweeps").glob("*.json")):
        try:
            rows.append({"name": path.stem, **sweep_record(path)})
        except (OSError, ValueError) as problem:
            said = problem.strerror if isinstance(problem, OSError) else problem
            _log.warning("%s: %s; left out, `recast store check` names it", path, said)
    return rows


def listing(store: Store) -> pl.DataFrame:
    """One row per sweep, the newest first: name, title, status (running, stopped, cut off, refused,
    finished), strategies, runs, missing, failed, why (the first failure or the reason of a
    refusal), began (seconds since 1970, null where unknown), seconds (how long it took), tags,
    text, archived, sweep as JSON, keys of its runs."""
    found: dict[str, dict[str, Any]] = {}
    for record in recorded(store):
        name, failures = record["name"], record["failures"]
        path = store.root / "sweeps" / f"{name}.json"
        found[name] = _row(store, name, record["sweep"], [*record["runs"], *failures]) | {
            "status": "finished",
            "failed": len(failures),
            "why": str(next(iter(failures.values()), "")),
            "began": _written(path),
        }
    for note in notes(store):
        content = note.read()
        if content is None:
            continue
        known = found.get(note.name)
        status = _status(note, content)
        row = known if known is not None and status == "finished" else None
        if row is None:
            row = _row(store, note.name, content["sweep"], content["runs"])
            row |= {"status": status, "failed": 0, "why": str(content.get("reason", ""))}
        found[note.name] = row | {
            "began": content.get("began"),
            "seconds": content.get("seconds"),
        }
    rows = sorted(found.values(), key=lambda row: -(row["began"] or 0))
    return pl.DataFrame(rows, schema=_SCHEMA)


def _status(note: Note, content: dict[str, Any]) -> str:
    state = str(content["state"])
    if state == "started":
        return "running" if note.alive else "cut off"
    return state


def _row(store: Store, name: str, sweep: dict[str, Any], keys: list[Any]) -> dict[str, Any]:
    labels = labels_of(store, name)
    keys = [str(key) for key in keys]
    return {
        "name": name,
        "title": labels.title or str(sweep.get("name", name)),
        "strategies": ", ".join(map(str, sweep.get("strategies", ()))),
        "runs": len(keys),
        "missing": sum(not store.has(key) for key in keys),
        "began": None,
        "seconds": None,
        "tags": list(labels.tags),
        "text": labels.text,
        "archived": labels.archived,
        "sweep": json.dumps(sweep),
        "keys": keys,
    }


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
