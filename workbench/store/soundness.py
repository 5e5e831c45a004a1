"""What a stored file must be to be read: beyond its checksum, which anybody can make right.

Whoever can write to a shared store can put a file there. A reader takes nothing from it on trust:
sizes come from metadata before anything is decoded, names must agree with contents, and what does
not fit is named like any other damage.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import polars as pl

from workbench.store.files import sha256

LARGEST = 64_000_000
"""Bytes of a run, a warm start or a sweep's record."""
MOST_ROWS = 1_000_000
MOST_COLUMNS = 1_000
_NEEDED = {"run", "strategy", "seed", "step", "split", "slice"}
_NESTED = (pl.List, pl.Array, pl.Struct, pl.Object)


def fault_of_run(key: str, content: bytes) -> str:
    """Why bytes with the right checksum are no run of that key; empty when they are one."""
    try:
        metadata = pl.read_parquet_metadata(io.BytesIO(content))
        config, provenance = (json.loads(metadata[name]) for name in ("config", "provenance"))
        if not isinstance(config, dict) or not isinstance(provenance, dict):
            return "not a run: its configuration is no table"
        fault = fault_of_rows(content)
        if fault:
            return fault
        names = pl.scan_parquet(content).select(pl.col("run").unique()).collect()["run"].to_list()
    except (KeyError, ValueError, TypeError, RecursionError, pl.exceptions.PolarsError, OSError):
        return "not a run: its content cannot be read"
    return "" if names == [key] else "not a run of this name: it holds another one"


def fault_of_rows(content: bytes) -> str:
    """Why a parquet cannot hold rows of runs, by its metadata alone; empty when it can.

    Raises PolarsError for what is no parquet.
    """
    schema = pl.read_parquet_schema(io.BytesIO(content))
    if not set(schema) >= _NEEDED or schema["run"] != pl.String:
        return "not a run: it lacks columns of one"
    if len(schema) > MOST_COLUMNS or any(isinstance(t, _NESTED) for t in schema.values()):
        return "not a run: its columns are none that a run has"
    rows = pl.scan_parquet(content).select(pl.len()).collect().item()
    return "" if rows <= MOST_ROWS else f"not a run: {rows:,} rows"


def fault_of_start(folder: Path) -> str:
    """Why a folder holds no warm start, in a phrase; empty when it does."""
    try:
        files = list(folder.iterdir())
        if len(files) != 1:
            return f"expected one file, found {len(files)}"
        if files[0].stat().st_size > LARGEST:
            return f"larger than {LARGEST:,} bytes"
        content = files[0].read_bytes()
    except PermissionError:
        return ""
    except OSError as problem:
        return f"cannot be read ({problem.strerror})"
    if sha256(content) != files[0].stem:
        return f"checksum differs ({len(content)} bytes)"
    return fault_of_archive(content)


def fault_of_archive(content: bytes) -> str:
    """Why bytes are no archive of arrays of a bounded size; empty when they are."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as held:
            names = set(held.namelist())
            size = sum(member.file_size for member in held.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return "not a warm start: no archive"
    if not {"all_zero.npy", "steps.npy", "opening.npy"} <= names:
        return "not a warm start: it lacks arrays of one"
    return "" if size <= 4 * LARGEST else f"not a warm start: {size:,} bytes unpacked"


def sweep_record(path: Path) -> dict[str, Any]:
    """The record of a sweep. Raises ValueError with a phrase for what is none, and OSError."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST:,} bytes")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("not a sweep's record: no JSON") from None
    kinds = {"sweep": dict, "runs": list, "failures": dict}
    if not isinstance(found, dict) or any(
        not isinstance(found.get(name), kind) for name, kind in kinds.items()
    ):
        raise ValueError("not a sweep's record: it lacks the sweep, its runs or its failures")
    if not all(isinstance(key, str) and len(key) < 100 for key in found["runs"]):
        raise ValueError("not a sweep's record: its runs are no names")
    return found
