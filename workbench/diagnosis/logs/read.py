"""Read a log of any size into one table of rollouts, and say what could not be read.

Blocks of rows stream through. Up to `MOST` rollouts everything is kept; beyond, a uniform sample of
whole groups, chosen by a hash of step and group, so that memory stays bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recast.progress import Progress
from recast.quoting import plain_line
from workbench.diagnosis.logs.column_names import NO_PROMPT
from workbench.diagnosis.logs.column_values import plain_name
from workbench.diagnosis.logs.file_kinds import kind_of
from workbench.diagnosis.logs.formats import FORMATS
from workbench.diagnosis.logs.grouping import group, names_rows
from workbench.diagnosis.logs.layout import (
    REWARD,
    SCHEMA,
    Choice,
    LogFormat,
    LogRow,
    Reader,
)
from workbench.diagnosis.logs.log_files import files_of
from workbench.diagnosis.logs.packed import unpacked_name
from workbench.diagnosis.logs.problems import Problems, unforeseen
from workbench.diagnosis.logs.records import flat
from workbench.diagnosis.logs.rewards import RewardRule, settle
from workbench.diagnosis.logs.rows import blocks, first_row
from workbench.errors import LogError

AS_LOGGED = Choice()
MOST = 1_000_000
"""Rollouts kept in memory; some 300 bytes each while they are put together and diagnosed."""

MOST_NAMED = 20
HELPERS = ("source", "evaluation", "uid", "session", "sample", "turn", "named", "image", "asked")


@dataclass(frozen=True)
class Log:
    """A log as read. rollouts: columns of `layout.SCHEMA` without those that only help to group,
    with reward, outcome and part (0: a key is a group), and a `REWARD` column for each column that
    may be a reward function or an outcome; form: name of its format; files read; problems; kept:
    share of groups in the table; total: rollouts read in all; reading: by which rule; ids: every
    rollout names its group."""

    rollouts: pl.DataFrame
    form: str
    files: int
    problems: Problems
    kept: float
    total: int
    reading: RewardRule
    ids: bool = False

    @property
    def words(self) -> str:
        """One line: where reward and outcome come from."""
        return self.reading.words


def read_log(
    paths: Sequence[Path],
    *,
    form: str = "",
    choice: Choice = AS_LOGGED,
    most: int = MOST,
    names: Sequence[str] | None = None,
    progress: Progress = lambda *_: None,
) -> Log:
    """Read files of one log; form: a key of `FORMATS`, "" to recognise each file by its first row.

    names: how to call the files in messages, their own names by default. progress: called with
    bytes done, bytes in all and the file's name.
    Raises LogError, one line, when nothing in them is readable, or a chosen column is not there.
    """
    task = _Reading(form, choice, most)
    sizes = [_size(path) for path in paths]
    for place, path in enumerate(paths):
        name = plain_line(names[place] if names else path.name)
        progress(sum(sizes[:place]), sum(sizes), name)
        try:
            task.file(path, name, place, Path(names[place]) if names else path)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeError) as problem:
            task.problems.file(name, unforeseen(problem))
    return task.log([_whose(path) for path in paths])


class _Reading:
    """A log while it is read."""

    def __init__(self, form: str, choice: Choice, most: int) -> None:
        self.form, self.choice, self.most = form, choice, most
        self.problems = Problems()
        self.readers: dict[str, Reader] = {}
        self.kept: list[pl.DataFrame] = []
        self.limit, self.rows, self.files = 1 << 64, 0, 0
        self.by_prompt = False
        self.seen: dict[str, None] = {}

    def file(self, path: Path, name: str, source: int, called: Path) -> None:
        """Read one file; called: the path that may say its step."""
        kind = kind_of(path, name, self.problems)
        if kind is None:
            return
        first = first_row(path, kind, self._tells)
        inner = next(flat(first), first) if first is not None else None
        if first is None or inner is None:
            # Whatever is wrong with it is noted while it is read.
            first = inner = {}
        form = self._form(first)
        form = self._form(inner) if form.name == "generic" else form
        reader = self.readers.setdefault(form.name, Reader(form, self.choice, self._total))
        reader.rollouts = self._total
        if inner and reader.foreign(inner):
            # Whatever else the file holds, it has no rollouts.
            self.seen |= dict.fromkeys(inner)
            reader.seen |= dict.fromkeys(inner)
            self.problems.file(name, NO_PROMPT)
            return
        before = self.problems.read
        step = _step_of(form, called)
        for raw in blocks(path, name, kind, reader, first, self.problems):
            if raw.height:
                self._keep(reader.frame(raw, name, source, step, self.problems))
        self.seen |= reader.seen
        self.files += self.problems.read > before

    def _tells(self, row: LogRow) -> bool:
        """Whether a record shows which log it is of: it fits a trainer's format or may be a
        rollout."""
        if self.form or self.choice.fields:
            return True
        inner = next(flat(row), row)
        form = recognise(list(row))
        form = recognise(list(inner)) if form.name == "generic" else form
        return form.name != "generic" or not Reader(form, self.choice).foreign(inner)

    @property
    def _total(self) -> int:
        return max((reader.rollouts for reader in self.readers.values()), default=0)

    def _form(self, row: LogRow) -> LogFormat:
        if self.form:
            return FORMATS[self.form]
        if self.choice.fields:
            return FORMATS["generic"]
        return recognise(list(row))

    def _keep(self, frame: pl.DataFrame) -> None:
        """Add rollouts; where they become too many, keep half of the groups."""
        if self.limit < 1 << 64:
            frame = self._drawn(frame)
        said = [column.name for column in frame if column.null_count() < frame.height]
        self.kept.append(frame.select(said) if frame.height else frame)
        self.rows += frame.height
        while self.rows > self.most:
            whole = pl.concat(self.kept, how="diagonal")
            if self.limit == 1 << 64:
                self.by_prompt = "sample" not in whole.columns and names_rows(whole)
            self.limit //= 2
            self.kept = [self._drawn(whole)]
            self.rows = self.kept[0].height

    def _drawn(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rollouts below the limit, with all of their group: by its id, or by step and prompt
        where each rollout has an id of its own."""
        if self.by_prompt:
            step = pl.col("step") if "step" in frame.columns else pl.lit(None, pl.Int64)
            frame = frame.with_columns(key=pl.struct(step.alias("step"), "prompt").hash())
        return frame.filter(pl.col("key") < self.limit)

    def log(self, folders: Sequence[int]) -> Log:
        """What was read. Raises LogError where it is nothing."""
        _know(self.choice, list(self.seen))
        if not self.rows:
            raise LogError(f"nothing readable: {self._reason()}", self._unknown())
        table = pl.concat(self.kept, how="diagonal", rechunk=True)
        self.kept = []
        table = table.with_columns(
            pl.lit(None, kind).alias(name)
            for name, kind in SCHEMA.items()
            if name not in table.columns
        )
        total = self._total
        used = next(one for one in self.readers.values() if one.rollouts)
        ids = not table["uid"].null_count()
        table, notes = group(table, used.form.ordered, folders)
        named = next((n for n in used.names.get("reward", ()) if n in _low(self.seen)), "")
        table, reading = settle(table, used.form, self.choice, _low(self.seen).get(named, named))
        functions = [c for c in table.columns if c.startswith(REWARD)]
        table = table.drop(HELPERS).with_columns(
            part=pl.lit(0, pl.Int64), task=pl.col("task").cast(pl.Categorical)
        )
        table = table.select(pl.exclude(functions), *functions)
        said = RewardRule(**{**vars(reading), "notes": (*notes, *reading.notes)})
        kept = self.limit / (1 << 64)
        return Log(table, used.form.name, self.files, self.problems, kept, total, said, ids)

    def _unknown(self) -> list[str]:
        """The columns that were met, where they lack a prompt or a reward."""
        if any(not reader.missing for reader in self.readers.values() if reader.seen):
            return []
        return list(self.seen)

    def _reason(self) -> str:
        """Why nothing is readable, and for a format that nobody knows how it could be read."""
        first = (self.problems.lines() or ["it holds no rows"])[0]
        columns = self._unknown()
        return f"{first}; {mapping_words(columns)}" if columns else first


def mapping_words(columns: Sequence[str]) -> str:
    """The columns of a log that nobody knows, and the option that would read it."""
    shown = ", ".join(plain_line(name, 40) for name in columns[:MOST_NAMED])
    more = f" and {len(columns) - MOST_NAMED} more" if len(columns) > MOST_NAMED else ""
    guess = mapping_guess(columns)
    option = ",".join(f"{name}={plain_line(column, 40)}" for name, column in guess.items())
    return f"its columns are {shown}{more}; say which is which: --map {option}"


GUESSES = {
    "step": r"step|iter|epoch|version|batch",
    "prompt": r"prompt|input|query|question|instruction|problem|task|user|context|group",
    "reward": r"reward|score|return|value|correct|acc|success|ndcg|recall|hit|metric",
    "prediction": r"completion|output|response|generat|answer|predict|rollout|text",
}


def mapping_guess(columns: Sequence[str]) -> dict[str, str]:
    """For step, prompt, reward and prediction the column that is most likely meant, "COLUMN" where
    none is (a step and a prediction may be missing)."""
    left = list(columns)
    found: dict[str, str] = {}
    for name, words in GUESSES.items():
        column = next((one for one in left if re.search(words, one.lower())), "")
        if column:
            left.remove(column)
            found[name] = column
        elif name in ("prompt", "reward"):
            found[name] = "COLUMN"
    return found


def recognise(columns: Sequence[str]) -> LogFormat:
    """The format of rows with these columns; the generic one where no other fits."""
    return next(form for form in FORMATS.values() if form.fits(columns))


def _low(names: dict[str, None]) -> dict[str, str]:
    return {plain_name(name): name for name in reversed(names)}


def _know(choice: Choice, there: Sequence[str]) -> None:
    """Raises LogError for a column that was asked for and that no row has."""
    low = {plain_name(name) for name in there}
    for name in choice.columns:
        mapped = name in [column for _, column in choice.fields]
        if there and name not in there and not (mapped and plain_name(name) in low):
            raise LogError(
                f"no column {plain_line(name, 40)}; the log has "
                f"{', '.join(plain_line(column, 40) for column in there[:MOST_NAMED])}"
            )


_WORKER = re.compile(
    r"(?:rank|gpu|worker|shard|process|proc|device|replica|node|host|dp|tp)[_\-]?\d+"
)


_PART = re.compile(r"\d+[_\-]of[_\-]\d+")


def _whose(path: Path) -> int:
    """A number that is equal for files which may hold parts of one batch: those of a folder, or of
    folders that are named by worker."""
    return hash(_WORKER.sub("", str(path.parent).lower()))


def _step_of(form: LogFormat, path: Path) -> int | None:
    called = "/".join(path.parts[-5:])
    called = unpacked_name(called)
    if form.name == "generic":
        called = _WORKER.sub("", _PART.sub("", called))
    found = re.search(form.step_of_file, called)
    said = found[found.lastindex] if found and found.lastindex else ""
    return int(said) if said and len(said) < 16 else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


__all__ = [
    "FORMATS",
    "MOST",
    "Log",
    "LogError",
    "files_of",
    "mapping_guess",
    "read_log",
    "recognise",
]
