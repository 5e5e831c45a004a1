"""Scalars in what a trainer printed: the lines of a console, kept in a file.

Hugging Face's Trainer and all that build on it (TRL, Unsloth, ms-swift) print a dict per logging
step, without its step: logging steps are counted. verl prints `step:12 - name:value - ...` with
ray's prefix, OpenRLHF `Global step 12: {...}`, slime `step 12: {...}` and `rollout 12: {...}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from workbench.diagnosis.logs.packed import DAMAGED, unpacked

Printed = tuple[int, str, float]

LONGEST_LINE = 1_000_000
LEAST = 3
"""Scalars in a line below which it is something else."""

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|inf)"
_WRAPPED = rf"(?:(?:np|numpy)\.[a-z]+\d*\(|tensor\()?[\"']?({_NUMBER})[\"']?[,)}}]"
_PAIR = re.compile(rf"[\"']([^\"'{{}}]{{1,200}})[\"']: *{_WRAPPED}", re.IGNORECASE)
_DASHED = re.compile(rf"([^\s:]{{1,200}}):({_NUMBER})(?= - |\s*$)", re.IGNORECASE)
_STEP = re.compile(r"\b(?:step|rollout|perf|eval)[ :=]+(\d{1,12})\b(?=\s*[:\-])", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DICT = re.compile(r"\{[\"'][^{}]*\}")


def points_of(path: Path) -> list[Printed]:
    """Step, name and value (NaN and infinite ones too) of every scalar that was printed; none where
    it is no such file."""
    found: list[Printed] = []
    counted = 0
    try:
        for line in _lines(path):
            said = _dashed(line) or _dict(line)
            if said is None:
                continue
            step, values = said
            if step is None:
                counted += not any(name.startswith(("eval", "train_runtime")) for name in values)
                step = counted
            found += [(step, name, value) for name, value in values.items()]
    except (OSError, *DAMAGED):
        return []
    return found


def _lines(path: Path) -> Iterator[str]:
    """Lines without colours; a progress bar, written over itself, ends a line."""
    with unpacked(path) as stream:
        for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
            for part in line.decode("utf-8", "replace").split("\r"):
                yield _COLOUR.sub("", part).rstrip()


def _dashed(line: str) -> tuple[int | None, dict[str, float]] | None:
    """verl's line."""
    start = _STEP.search(line)
    if start is None or " - " not in line:
        return None
    values = {name: float(value) for name, value in _DASHED.findall(line[start.end() :])}
    return (int(start[1]), values) if len(values) >= LEAST else None


def _dict(line: str) -> tuple[int | None, dict[str, float]] | None:
    """A dict of scalars, with a step before it or none."""
    said = _DICT.search(line)
    if said is None:
        return None
    values = {name: float(value) for name, value in _PAIR.findall(said[0])}
    if len(values) < LEAST:
        return None
    start = _STEP.search(line[: said.start()])
    return (int(start[1]) if start else None), values


__all__ = ["points_of"]
