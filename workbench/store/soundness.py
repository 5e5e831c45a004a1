"""What a stored file must be to be read: beyond its checksum, which anybody can make right.

Whoever can write to a shared store can put a file there. A reader takes nothing from it on trust:
sizes come from metadata before anything is decoded, names must agree with contents, and what does
not fit is named like any other damage.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from pathlib import Path

import polars as pl

from workbench.store.files import LARGEST, read_regular, sha256

RUN_FILE = re.compile(r"(?P<sha>[0-9a-f]{64})(?:\.v(?P<version>\d+))?\.parquet")
KEY = re.compile(r"[0-9a-f]{20}")
"""The name of a run or a warm start."""
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
        fault = _fault_of_columns(content)
        if fault:
            return fault
        names = pl.scan_parquet(content).select("run").head(MOST_ROWS + 1).collect()["run"]
        if len(names) > MOST_ROWS:
            return fault_of_rows(content)
    except (KeyError, ValueError, TypeError, RecursionError, pl.exceptions.PolarsError, OSError):
        return "not a run: its content cannot be read"
    return (
        "" if names.unique().to_list() == [key] else "not a run of this name: it holds another one"
    )


def fault_of_rows(content: bytes) -> str:
    """Why a parquet cannot hold rows of runs, by its metadata alone; empty when it can.

    Raises PolarsError for what is no parquet.
    """
    fault = _fault_of_columns(content)
    if fault:
        return fault
    rows = pl.scan_parquet(content).select(pl.len()).collect().item()
    return "" if rows <= MOST_ROWS else f"not a run: {rows:,} rows"


def _fault_of_columns(content: bytes) -> str:
    schema = pl.read_parquet_schema(io.BytesIO(content))
    if not set(schema) >= _NEEDED or schema["run"] != pl.String:
        return "not a run: it lacks columns of one"
    if len(schema) > MOST_COLUMNS or any(isinstance(t, _NESTED) for t in schema.values()):
        return "not a run: its columns are none that a run has"
    return ""


def only_file(folder: Path) -> tuple[Path, bytes]:
    """The one file of a run's folder. Raises ValueError, one phrase, when there is no such file,
    and OSError."""
    names = listed(folder)
    if len(names) != 1 or RUN_FILE.fullmatch(names[0]) is None:
        raise ValueError(f"expected one run file, found {', '.join(names[:3]) or 'none'}")
    path = folder / names[0]
    if path.is_symlink() and not path.exists():
        raise ValueError("expected one run file, found a link to nothing")
    return path, read_regular(path)


def start_content(folder: Path) -> bytes:
    """The verified bytes of a warm start. Raises ValueError, one phrase, for what is none, and
    OSError."""
    names = listed(folder)
    if len(names) != 1:
        raise ValueError(f"expected one file, found {len(names)}")
    content = read_regular(folder / names[0])
    if sha256(content) != names[0].removesuffix(".npz"):
        raise ValueError(f"checksum differs ({len(content)} bytes)")
    if fault := fault_of_archive(content):
        raise ValueError(fault)
    return content


def listed(folder: Path | str) -> list[str]:
    """What a folder holds. Raises ValueError for what is no folder, and OSError."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except NotADirectoryError:
        raise ValueError("no folder") from None


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
