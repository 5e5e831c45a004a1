"""The small JSON files of a store: records of sweeps, notes of started ones, labels.

Each is read whole and checked before anything is taken from it: anybody who can write to a shared
store can put any text there.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from workbench.store.files import read_regular

SCHEMA_VERSION = 1
_LATEST = 1e11
"""Seconds since 1970 that a calendar still has, by far."""


class LaterVersionError(ValueError):
    """Written by a later release: sound for all we know."""


def sweep_record(path: Path) -> dict[str, Any]:
    """The record of a sweep. Raises ValueError, a phrase, for what is none, and OSError."""
    found = _table(path, "a sweep's record", sweep=dict, runs=list, failures=dict)
    _check_sweep(found, "a sweep's record", [*found["runs"], *found["failures"]])
    return found


def sweep_note(path: Path) -> dict[str, Any]:
    """The note of a sweep that the app started. Raises ValueError, a phrase, for what is none,
    and OSError."""
    found = _table(path, "a note of a sweep", sweep=dict, runs=list, state=str)
    _check_sweep(found, "a note of a sweep", found["runs"])
    for name in ("began", "seconds"):
        if found.get(name) is not None and not _is_time(found[name]):
            raise ValueError(f"not a note of a sweep: {name} is no time")
    return found


def label_record(path: Path) -> dict[str, Any]:
    """What a person said of a sweep. Raises ValueError, a phrase, for what is none, and OSError."""
    return _table(path, "labels of a sweep", title=str, tags=list, text=str, archived=bool)


def _table(path: Path, what: str, **kinds: type) -> dict[str, Any]:
    content = read_regular(path)
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"not {what}: no JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"not {what}: no table")
    version = found.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise LaterVersionError("written by a later recast")
    if version != SCHEMA_VERSION:
        raise ValueError(f"not {what}: its schema version is none")
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind):
            raise ValueError(f"not {what}: it lacks its {name}")
    return found


def _check_sweep(found: dict[str, Any], what: str, keys: list[Any]) -> None:
    if not all(isinstance(key, str) and 0 < len(key) < 100 for key in keys):
        raise ValueError(f"not {what}: its runs are no names")
    if not isinstance(found["sweep"].get("strategies", []), list):
        raise ValueError(f"not {what}: its strategies are no list")


def _is_time(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value < _LATEST
