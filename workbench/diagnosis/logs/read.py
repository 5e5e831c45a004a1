"""Read a log of any size into one table of rollouts, and say what could not be read.

Rows stream through in batches. Up to `MOST` rollouts everything is kept; beyond, a uniform sample
of whole groups, chosen by a hash of step and group, so that memory stays bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from workbench.diagnosis.logs import generic, openrlhf, trl, verl
from workbench.diagnosis.logs.layout import Choice, LogFormat, Reader, Unreadable
from workbench.diagnosis.logs.problems import LogError, Problems, plain_line
from workbench.diagnosis.logs.rows import batches, kind_of

FORMATS: dict[str, LogFormat] = {
    form.FORMAT.name: form.FORMAT for form in (trl, verl, openrlhf, generic)
}
AS_LOGGED = Choice()
MOST = 1_000_000
"""Rollouts kept in memory; some 300 bytes each while they are put together and diagnosed."""

MOST_NAMED = 20
SUFFIXES = (".parquet", ".jsonl", ".csv", ".json", ".ndjson")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Log:
    """A log as read. rollouts: columns of `layout.SCHEMA` plus part, which tells groups of one key
    apart; form: name of its format; files read; problems; kept: share of groups in the table;
    total: rollouts read in all; words: where reward and outcome come from."""

    rollouts: pl.DataFrame
    form: str
    files: int
    problems: Problems
    kept: float
    total: int
    words: str


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files of a log: those named, and in a named folder (or in its `completions`) every file
    with a known suffix, numbers in their natural order.

    Raises LogError for a path that does not exist and a folder without such files.
    """
    found: list[Path] = []
    for path in paths:
        try:
            is_folder, is_file = path.is_dir(), path.exists()
        except (OSError, ValueError):
            is_folder = is_file = False
        if is_folder:
            inside = _inside(path) or _inside(path / "completions")
            if not inside:
                raise LogError(
                    f"{plain_line(path)}: no log in this folder; expected files that end in "
                    f"{', '.join(SUFFIXES)}"
                )
            found += inside
        elif is_file:
            found.append(path)
        else:
            raise LogError(f"{plain_line(path)}: no such file or folder")
    return found


def read_log(
    paths: Sequence[Path],
    *,
    form: str = "",
    choice: Choice = AS_LOGGED,
    most: int = MOST,
    names: Sequence[str] | None = None,
    progress: Progress = lambda *_: None,
) -> Log:
    """Read files of one log; form: a key of `FORMATS`, "" to recognise it from the first rows.

    names: how to call the files in messages, their own names by default. progress: called with
    bytes done, bytes in all and the file's name.
    Raises LogError, one line, when nothing in them is readable, or a chosen column is not there.
    """
    problems = Problems()
    reader: Reader | None = None
    kept: list[pl.DataFrame] = []
    limit, rows, used = 1 << 64, 0, 0
    sizes = [_size(path) for path in paths]
    for place, path in enumerate(paths):
        name = plain_line(names[place] if names else path.name)
        progress(sum(sizes[:place]), sum(sizes), name)
        kind = kind_of(path, name, problems)
        if kind is None:
            continue
        before = problems.read
        for batch in batches(path, name, kind, problems):
            if not batch:
                continue
            if reader is None:
                chosen = FORMATS[form] if form else recognise(list(batch[0][1]))
                reader = Reader(chosen, choice)
            reader.learn(batch)
            step = _step_of(reader.form, path)
            for number, row in batch:
                try:
                    reader.add(row, step)
                except Unreadable as problem:
                    problems.row(name, number, str(problem))
                else:
                    problems.read += 1
            frame = reader.table.frame()
            if limit < 1 << 64:
                frame = frame.filter(pl.col("key") < limit)
            kept.append(frame)
            rows += frame.height
            while rows > most:
                limit //= 2
                kept = [pl.concat(kept).filter(pl.col("key") < limit)]
                rows = kept[0].height
        used += problems.read > before
    if reader is not None:
        _know(choice, reader)
    if reader is None or not rows:
        first = problems.lines()[0] if problems.first else "no file"
        raise LogError(f"nothing readable: {first}")
    table = pl.concat(kept).with_columns(pl.col("task").cast(pl.Categorical))
    parts = _parts(table, reader.form.ordered)
    words = next(one.words for one in reader.layouts.values() if not one.missing)
    return Log(parts, reader.form.name, used, problems, limit / (1 << 64), reader.rollouts, words)


def recognise(columns: Sequence[str]) -> LogFormat:
    """The format of rows with these columns; the generic one where no other fits."""
    return next(form for form in FORMATS.values() if form.fits(columns))


def _know(choice: Choice, reader: Reader) -> None:
    """Raises LogError for a column that was asked for and that no row has."""
    there = list(dict.fromkeys(name for shape in reader.layouts for name in shape))
    for name in (*choice.reward, choice.outcome):
        if name and name not in there:
            raise LogError(
                f"no column {plain_line(name, 40)}; the log has "
                f"{', '.join(plain_line(column, 40) for column in there[:MOST_NAMED])}"
            )


def _parts(table: pl.DataFrame, ordered: bool) -> pl.DataFrame:
    """Number the groups that share a key: a multiple of the usual size, rollouts standing together,
    is that many groups of one prompt."""
    table = table.sort("order")
    if not ordered:
        return table.with_columns(part=pl.lit(0, pl.Int64))
    size = pl.len().over("key")
    usual = table.group_by("key").len()["len"].mode().max()
    assert isinstance(usual, int)
    place = pl.int_range(pl.len()).over("key")
    several = (size % usual == 0) & (size > usual) & (usual > 1)
    return table.with_columns(
        part=pl.when(several).then(place // usual).otherwise(0).cast(pl.Int64)
    )


def _inside(folder: Path) -> list[Path]:
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
    except OSError:
        return []
    return sorted(found, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def _step_of(form: LogFormat, path: Path) -> int | None:
    found = re.search(form.step_of_file, path.name)
    return int(found[1]) if found and len(found[1]) < 16 else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


__all__ = ["FORMATS", "MOST", "Log", "LogError", "files_of", "read_log", "recognise"]
