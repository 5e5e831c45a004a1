"""Follow a log that grows, and say what begins and what is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.diagnosis.answer import DiagnosisSummary
from workbench.diagnosis.findings import Finding
from workbench.diagnosis.logs.read import files_of
from workbench.errors import LogError

Diagnose = Callable[[list[Path]], DiagnosisSummary]


@dataclass(frozen=True)
class Seen:
    """One look at a log. answer: None while nothing is readable, and why; began, over: findings
    that were not there at the look before, or were and are no more (a note that became a problem
    begins)."""

    answer: DiagnosisSummary | None
    why: str
    began: tuple[Finding, ...]
    over: tuple[str, ...]


def follow(paths: Sequence[Path], look: Diagnose, wait: Callable[[], bool]) -> Iterator[Seen]:
    """Look at a log whenever its files have changed; wait: until the next glance, False to end.

    look raises LogError where nothing is readable yet: that is said once, and waited out.
    """
    before: dict[Path, tuple[int, int]] = {}
    known: dict[str, str] = {}
    silent = ""
    while True:
        try:
            files = files_of(paths)
            state = {path: _state(path) for path in files}
            if state != before:
                before, silent = state, ""
                answer = look(files)
                levels = {one.name: one.level for one in answer.findings}
                began = tuple(one for one in answer.findings if known.get(one.name) != one.level)
                over = tuple(name for name in known if name not in levels)
                known = dict(levels)
                yield Seen(answer, "", began, over)
        except LogError as problem:
            if str(problem) != silent:
                silent = str(problem)
                yield Seen(None, silent, (), ())
        if not wait():
            return


def _state(path: Path) -> tuple[int, int]:
    try:
        said = path.stat()
    except OSError:
        return 0, 0
    return said.st_size, said.st_mtime_ns
