"""`STORE/parts`: rows that earlier readers parsed, for speed only.

A part is used for exactly those runs whose verified checksums it carries, so it can be deleted at
any time and is never stale.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from workbench.errors import DiskError
from workbench.store.contents import Contents, Damage
from workbench.store.files import read_regular, replace, sha256
from workbench.store.soundness import fault_of_rows, fault_of_run

_WORTH_A_PART = 256
_MOST_PARTS = 8
MOST_BYTES = 2_000_000_000
_log = logging.getLogger("recast")


def rows_of(root: Path, held: Contents) -> pl.LazyFrame:
    """The rows of verified files, lazily: from parts where they are there, else parsed anew."""
    sums = {key: _checksum(path) for key, (path, _) in held.good.items()}
    frames: list[pl.LazyFrame] = []
    used: list[Path] = []
    for path, rows, manifest in _parts(root):
        known = [key for key in sums if manifest.get(key) == sums[key]]
        for key in known:
            del sums[key]
        if known:
            whole = len(known) == len(manifest)
            frames.append(rows if whole else rows.filter(pl.col("run").is_in(known)))
            used.append(path)
    if sums:
        rest = _together({key: held.good[key] for key in sums})
        if len(sums) >= _WORTH_A_PART:
            _keep_part(root, rest.collect(), sums)
        frames.append(rest)
    frames = [frame for frame in frames if frame.collect_schema()]
    if not frames:
        return pl.LazyFrame()
    whole_frame = pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]
    if len(used) > _MOST_PARTS:
        frame = whole_frame.collect()
        everything = {key: _checksum(path) for key, (path, _) in held.good.items()}
        if _keep_part(root, frame, everything):
            for path in used:
                path.unlink(missing_ok=True)
        return frame.lazy()
    return whole_frame


def _parts(root: Path) -> Iterator[tuple[Path, pl.LazyFrame, dict[str, str]]]:
    """Rows parsed earlier, verified, each with the checksums of the runs it stands for."""
    for path in sorted((root / "parts").glob("*.parquet")):
        with contextlib.suppress(OSError, ValueError):
            yield path, *part_content(path)


def _keep_part(root: Path, frame: pl.DataFrame, sums: Mapping[str, str]) -> bool:
    """Best effort: a store that cannot be written is read all the same."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="lz4", metadata={"runs": json.dumps(dict(sums))})
    content = buffer.getvalue()
    try:
        replace(content, root / "parts" / f"{sha256(content)}.parquet")
    except DiskError as problem:
        _log.debug("parsed runs not kept: %s", problem)
        return False
    return True


def _checksum(path: Path) -> str:
    return path.name[:64]


def part_content(path: Path) -> tuple[pl.LazyFrame, dict[str, str]]:
    """Rows parsed earlier and the checksums of their runs. Raises ValueError, one phrase, for
    anything else, and OSError."""
    content = read_regular(path, MOST_BYTES)
    try:
        manifest = json.loads(pl.read_parquet_metadata(io.BytesIO(content))["runs"])
        fits = sha256(content) == path.stem and isinstance(manifest, dict)
        if fits and not fault_of_rows(content):
            rows = pl.scan_parquet(content)
            if set(rows.select(pl.col("run").unique()).collect()["run"]) <= set(manifest):
                return rows, manifest
    except (KeyError, ValueError, RecursionError, pl.exceptions.PolarsError):
        pass
    raise ValueError("not the parsed runs it names")


def _together(held: Mapping[str, tuple[Path, bytes]]) -> pl.LazyFrame:
    """Many files as one frame, without those that are no runs, which are named on the log."""
    contents = [content for _, content in held.values()]
    try:
        frame = pl.scan_parquet(contents).collect()
        if frame["run"].unique().sort().to_list() == sorted(held):
            return frame.lazy()
    except pl.exceptions.PolarsError:
        pass  # columns that differ, or a file that is no run
    frames = []
    for key, (path, content) in held.items():
        fault = fault_of_run(key, content)
        if fault:
            _log.warning("%s; left out, `recast store check` sets it aside", Damage(path, fault))
        else:
            frames.append(pl.read_parquet(io.BytesIO(content)))
    return (pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()).lazy()
