"""What could not be read of a log: one line per problem, with file and row, and how much in all."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from recast.quoting import plain_line

SHOWN = 20

MOST_COLUMNS = 10_000
"""Columns of a record at most."""

CUT_LINE = "a truncated line"
"""What is said of a file's last line where it has no end: it may still be written."""


_SCARCE = re.compile(r"memory|alloc|capacity|thread|temporarily unavailable", re.IGNORECASE)

NO_NUMBER = "a reward that is no finite number"
"""What is said of a row whose reward is NaN, infinite or no number."""


@dataclass(frozen=True)
class Problem:
    """file: name as text; row: line of a text file or row of a table, from 1, 0 for the whole file;
    what: one line."""

    file: str
    row: int
    what: str

    def __str__(self) -> str:
        place = f"row {self.row}: " if self.row else ""
        return f"{self.file}: {place}{self.what}"


@dataclass
class Problems:
    """Collects problems while a log is read; keeps the first `SHOWN` and counts all.

    read, unreadable: rows that were and were not understood; files: files given up entirely.
    """

    read: int = 0
    unreadable: int = 0
    files: int = 0
    first: list[Problem] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def row(self, file: str, row: int, what: str) -> None:
        """One row that is left out."""
        self.unreadable += 1
        self._note(Problem(file, row, what))

    def file(self, file: str, what: str) -> None:
        """A file of which nothing more can be read."""
        self.files += 1
        self._note(Problem(file, 0, what))

    @property
    def share(self) -> float:
        """Share of rows that could not be read; files given up entirely have no rows to count."""
        return self.unreadable / max(1, self.read + self.unreadable)

    def lines(self) -> list[str]:
        """One line per problem, the first `SHOWN` of them, then how many more of each kind."""
        found = [str(problem) for problem in self.first]
        more = self.kinds - Counter(problem.what for problem in self.first)
        return found + [f"and {count:,} more: {what}" for what, count in more.most_common(5)]

    def summary(self) -> str:
        """How much could not be read, in one line; empty when everything could."""
        if not self.unreadable and not self.files:
            return ""
        total = self.read + self.unreadable
        said = [f"{self.unreadable:,} of {total:,} rows ({self.share:.2%})"] * bool(self.unreadable)
        said += [f"{self.files} file{'s' if self.files > 1 else ''}"] * bool(self.files)
        return f"{' and '.join(said)} could not be read; the rest is diagnosed"

    def _note(self, problem: Problem) -> None:
        self.kinds[problem.what] += 1
        if len(self.first) < SHOWN:
            self.first.append(problem)


def unforeseen(problem: BaseException) -> str:
    """What is said of a file in which a library found what nobody foresaw. Raises the problem again
    where memory or threads ran out, which is no fault of the file's content."""
    said = str(problem)
    if isinstance(problem, MemoryError) or _SCARCE.search(said):
        raise problem
    return f"cannot be read ({type(problem).__name__}: {plain_line(said, 60)})"


def too_wide(columns: int) -> str:
    """What is said of a file with so many columns, none of which is read."""
    return f"{columns:,} columns; expected at most {MOST_COLUMNS:,}"
