"""Scalars in what a trainer printed: the lines of a console, kept in a file.

Hugging Face's Trainer and all that build on it (TRL, Unsloth, ms-swift) print a dict per logging
step, without its step: logging steps are counted. verl prints `step:12 - name:value - ...` with
ray's prefix, OpenRLHF `Global step 12: {...}`, slime `step 12: {...}` and `rollout 12: {...}`,
ROLL `metrics_tag: {"step": 12, "metrics": {...}}`, prime-rl `Step 12 | Reward: 0.41 | ...`. EasyR1
prints `Step 12` and YAML below it, AReaL `Train step 12/60 done.` and a table of names and values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
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
_BARRED = re.compile(r"\bStep (\d{1,12})\)? *\|(.*)$")
_PART = re.compile(rf"^\s*([A-Za-z][A-Za-z ./_-]*?):?\s+({_NUMBER})(%?)", re.IGNORECASE)
_PREFIX = re.compile(r"^\(\S+ pid=\d+(?:, ip=[\w.:]+)?\) ?")
_ALONE = re.compile(r"^Step (\d{1,12})$")
_DONE = re.compile(r"\bTrain step (\d{1,12})/\d+ done")
_LEAF = re.compile(rf"^( *)([^\s:][^:]{{0,100}}):(?: ({_NUMBER}))?$", re.IGNORECASE)
_IS_NAME = re.compile(r"^[A-Za-z][\w./@-]*$")
_IS = re.compile(rf"^{_NUMBER}$", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DICT = re.compile(r"\{[\"'][^{}]*\}")


def points_of(path: Path) -> list[Printed]:
    """Step, name and value (NaN and infinite ones too) of every scalar that was printed; none where
    it is no such file."""
    found: list[Printed] = []
    counted = 0
    below = _Below()
    try:
        for line in _lines(path):
            said = _dashed(line) or _barred(line) or _dict(line)
            if said is None:
                found += below.line(line)
                continue
            step, values = said
            if step is None:
                counted += not any(name.startswith(("eval", "train_runtime")) for name in values)
                step = counted
            found += [(step, name, value) for name, value in values.items()]
    except (OSError, *DAMAGED):
        return []
    return found


class _Below:
    """Scalars in the lines below one that says the step: YAML, or the cells of a table."""

    def __init__(self) -> None:
        self.step: int | None = None
        self.yaml = False
        self.outer: list[tuple[int, str]] = []

    def line(self, line: str) -> list[Printed]:
        """What a line holds, if one before it has said the step."""
        plain = _PREFIX.sub("", line)
        if found := _ALONE.match(plain):
            self.step, self.yaml, self.outer = int(found[1]), True, []
            return []
        if found := _DONE.search(plain):
            self.step, self.yaml = int(found[1]), False
            return []
        if self.step is None:
            return []
        step = self.step
        cells = [cell.strip() for cell in re.split(r"[\u2502|]", plain)]
        if len(cells) > LEAST:
            pairs = pairwise(cells)
            return [(step, a, float(b)) for a, b in pairs if _IS_NAME.match(a) and _IS.match(b)]
        leaf = _LEAF.match(plain) if self.yaml else None
        self.yaml = leaf is not None
        if leaf is None:
            return []
        deep, name, value = len(leaf[1]), leaf[2], leaf[3]
        self.outer = [one for one in self.outer if one[0] < deep]
        whole = "/".join([*(called for _, called in self.outer), name])
        if value:
            return [(step, whole, float(value))]
        self.outer.append((deep, name))
        return []


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


def _barred(line: str) -> tuple[int | None, dict[str, float]] | None:
    """prime-rl's line; an evaluation's scalars are named so."""
    start = _BARRED.search(line)
    if start is None:
        return None
    before = "eval/" if "Evaluated" in line[: start.start()] else ""
    values = {}
    for part in start[2].split("|"):
        if said := _PART.match(part):
            name = re.sub(r"[^a-z0-9/]+", "_", said[1].lower()).strip("_")
            values[before + name] = float(said[2]) / (100 if said[3] else 1)
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
