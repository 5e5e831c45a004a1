"""Rollouts in what a program printed: objects at the end of a line, below whatever wrote it down.

A line may begin with a time, a logger's name, ray's or a rank's prefix, in colours; Docker
(`{"log", "stream", "time"}`), Kubernetes (`<time> stdout F <line>`) and collectors of logs put it
into lines of their own. The object is JSON or what Python prints of a dict.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from workbench.diagnosis.logs.column_values import plain_name
from workbench.diagnosis.logs.formats.generic import FORMAT as GENERIC
from workbench.diagnosis.logs.layout import LogRow
from workbench.diagnosis.logs.packed import unpacked
from workbench.diagnosis.logs.problems import CUT_LINE, Problems
from workbench.diagnosis.logs.records import flat

COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LOOKED_AT = 400
"""Lines at the start of a file by which it is told what it is."""

_WRAPPED = ("log", "message", "msg", "line", "MESSAGE", "textPayload", "@message", "text_payload")
"""Where collectors of logs keep the line that was printed."""

_CRI = re.compile(r"^\d{4}-\d\d-\d\dT\S+ (?:stdout|stderr) ([FP]) (.*)$", re.DOTALL)
DOCKERS = 16_000
"""Bytes from which on a line without an end is the piece of one that Docker cut."""
_TRIED = 4
_LONGEST = 4_000_000


def said_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """The lines that a program printed and their numbers, without colours, out of whatever keeps
    them; a long line that its keeper cut is whole again."""
    parts: list[str] = []
    for number, line in enumerate(lines, start=1):
        text, whole = _out_of(line.decode("utf-8", "replace"))
        parts.append(text)
        if whole:
            yield number, COLOUR.sub("", "".join(parts))
            parts = []
    if parts:
        yield number, COLOUR.sub("", "".join(parts))


def _out_of(line: str) -> tuple[str, bool]:
    """What was printed, and whether that is a whole line."""
    if line.startswith("{") and (said := _kept(line)) is not None:
        whole = said.endswith("\n") or len(said.encode("utf-8", "replace")) < DOCKERS
        text, rest = _out_of(said) if _CRI.match(said) else (said, True)
        return text, whole and rest
    if found := _CRI.match(line):
        said = found[2]
        return (said, True) if found[1] == "F" else (said.rstrip("\r\n"), False)
    return line, True


def _kept(line: str) -> str | None:
    """The printed line in an object of a collector; None where it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    text = next((row[name] for name in _WRAPPED if isinstance(row.get(name), str)), None)
    if text is None:
        return None
    collected = {"stream", "time", "timestamp", "ts", "@timestamp", "kubernetes", "container_name",
                 "__REALTIME_TIMESTAMP", "severity", "level"} & set(row)  # fmt: skip
    return text if collected and not is_rollout(row) else None


def object_in(line: str) -> LogRow | None:
    """The object that a line ends in; None where it ends in none."""
    if not line.rstrip().endswith("}"):
        return None
    text, at = line.strip(), -1
    for _ in range(_TRIED):
        at = text.find("{", at + 1)
        if at < 0 or len(text) > _LONGEST:
            return None
        if isinstance(row := _object(text[at:]), dict) and len(row) > 1:
            return row
    return None


def _object(text: str) -> Any:
    """What a text writes in JSON, or as Python prints it; nothing is run."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if not text.startswith("{'"):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def is_rollout(row: LogRow) -> bool:
    """Whether an object has a reward and a prompt or a group, by any name of the generic table."""
    inner = next(flat(row), row)
    names = {plain_name(str(name)) for name in inner}
    asked = {*GENERIC.names["prompt"], *GENERIC.names["group"]}
    return bool(names & asked) and bool(names & set(GENERIC.names["reward"]))


def holds_printed(head: bytes) -> bool:
    """Whether a text, of which this is the start, is what a program printed, with rollouts in its
    lines: the lines themselves are neither a table nor JSON lines."""
    lines = head.splitlines(keepends=True)[:LOOKED_AT]
    if len(lines) > 1 and not head.endswith(b"\n"):
        lines = lines[:-1]
    first = next((line for line in lines if line.strip()), b"")
    text = first.decode("utf-8", "replace")
    if text.startswith("{") and _kept(text) is None and not text.startswith("{'"):
        return False
    found = [row for _, one in said_lines(lines) if (row := object_in(one)) is not None]
    return any(map(is_rollout, found))


def printed_rows(path: Path, longest: int, name: str, problems: Problems) -> Iterator[Any]:
    """Line numbers and rollouts of such a file; other lines are passed over."""
    with unpacked(path) as stream:
        last = ""
        for number, line in said_lines(_bounded(stream, longest)):
            row = object_in(line)
            if row is not None and is_rollout(row):
                yield number, row
            last = line
        if "{" in last and not last.endswith("\n") and object_in(last) is None:
            problems.row(name, number, CUT_LINE)


def _bounded(stream: BinaryIO, longest: int) -> Iterator[bytes]:
    yield from iter(lambda: stream.readline(longest), b"")


__all__ = ["COLOUR", "holds_printed", "is_rollout", "object_in", "printed_rows", "said_lines"]
