"""Rollouts that were shown to a reader: fields after `[prompt]`, `[output]` and so on, and tables
drawn with lines.

EasyR1 appends `[prompt] ...`, `[output] ...`, `[ground_truth] ...`, `[score] ...` to
`generations.log` at every validation, its forks also in training below a banner `Step 5`; verl
prints the like of some examples. TRL draws its completions with rich, `Step 5` above. Where only
examples are shown, groups are not whole, and nothing is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from workbench.diagnosis.logs.layout import LogRow
from workbench.diagnosis.logs.packed import unpacked
from workbench.diagnosis.logs.printed_rollouts import said_lines
from workbench.diagnosis.logs.problems import Problems

Numbered = tuple[int, LogRow]

EXAMPLES = (
    "shows examples only, no whole groups; give the rollouts that the trainer saves "
    "(TRL: log_completions=True and its completions_*.parquet; verl: trainer.rollout_data_dir)"
)
MOSTLY = 0.9

_MARK = re.compile(
    r"^\[(prompt|input|question|output|response|completion|raw_response|ground_truth|label|answer|"
    r"score|reward|acc|accuracy|format|step|uid)\](?: |$)"
)
_BEGINS = ("prompt", "input", "question")
_BANNER = re.compile(r"^[=\-#*\s]*(?:global[ _])?step[ :=]*(\d{1,9})[=\-#*:\s]*$", re.IGNORECASE)
_PREFIX = re.compile(r"^\([^()]{0,200}pid=\d+[^()]{0,200}\) ?")

_TITLE = re.compile(r"^╭─.* Step (\d{1,9}) .*─╮$")
TRL = {"Prompt": "prompt", "Completion": "completion", "Reward": "reward"}
"""Columns of a table that TRL draws, as it names them in its files."""

_EDGE = frozenset("┏┡┌├└╭╰")


def shown_kind(head: str) -> str:
    """ "marked" or "drawn" for a text, of which this is the start, that shows rollouts so; "" for
    any other."""
    lines = [_PREFIX.sub("", line) for line in head.splitlines()]
    marks = {found[1] for line in lines if (found := _MARK.match(line))}
    if marks & set(_BEGINS) and marks & {"score", "reward"}:
        return "marked"
    if any(map(_TITLE.match, map(str.strip, lines))) and any("┃" in line for line in lines):
        return "drawn"
    return ""


def shown_rows(path: Path, kind: str, name: str, problems: Problems) -> Iterator[Numbered]:
    """Line numbers and rollouts of such a text; none, with a problem noted, where groups are not
    whole."""
    with unpacked(path) as stream:
        lines = said_lines(iter(lambda: stream.readline(1_000_000), b""))
        plain = ((number, _PREFIX.sub("", line).rstrip()) for number, line in lines)
        rows = list(_marked(plain) if kind == "marked" else _drawn(plain))
    sizes = Counter(_asked(row) for _, row in rows).values()
    usual = Counter(sizes).most_common(1)[0][0] if rows else 0
    if usual < 2 or sum(size == usual for size in sizes) < MOSTLY * len(sizes):
        problems.file(name, EXAMPLES)
        return
    yield from rows


def _asked(row: LogRow) -> tuple[Any, str]:
    return row.get("step"), next((str(row[one]) for one in _BEGINS if one in row), "")


def _marked(lines: Iterable[tuple[int, str]]) -> Iterator[Numbered]:
    """Records of marked fields. Without a banner for steps, prompts that come again once others
    came between begin the next step."""
    step: int | None = None
    turn, before, seen = 0, "", set[str]()
    row: dict[str, list[str]] = {}
    field, start = "", 0

    def whole() -> Iterator[Numbered]:
        nonlocal turn, before
        said = {name: "\n".join(parts).strip() for name, parts in row.items()}
        asked = next((said[one] for one in _BEGINS if one in said), "")
        if not {"score", "reward"} & set(said):
            return
        if step is None and asked != before and asked in seen:
            turn += 1
            seen.clear()
        seen.add(asked)
        before = asked
        yield start, {"step": turn if step is None else step, **said}

    for number, line in lines:
        found = _MARK.match(line)
        banner = _BANNER.match(line) if field in ("", "score", "reward") else None
        if banner or (found and found[1] in _BEGINS and row):
            yield from whole()
            row, field = {}, ""
        if banner:
            step = int(banner[1])
        elif found:
            field, start = found[1], start if row else number
            row[field] = [line[found.end() :]]
        elif field in ("score", "reward"):
            # A number ends with its line: what follows is something else.
            continue
        elif field:
            row[field].append(line)
    yield from whole()


def _drawn(lines: Iterable[tuple[int, str]]) -> Iterator[Numbered]:
    """The rows of drawn tables; words that were broken over lines have a space between."""
    step, header = 0, list[str]()
    cells: list[list[str]] = []
    for number, line in lines:
        text = line.strip()
        if found := _TITLE.match(text):
            step, header, cells = int(found[1]), [], []
            continue
        text = text.removeprefix("│").removesuffix("│").strip() if _nested(text) else text
        if text[:1] in _EDGE:
            if cells and header:
                said = [" ".join(part for part in one if part) for one in zip(*cells, strict=False)]
                if len(said) == len(header):
                    # Advantages are shown with two decimals, too few to find out what made them.
                    row = dict(zip(header, map(_value, said), strict=True))
                    named = {TRL.get(one, one): v for one, v in row.items() if one != "Advantage"}
                    yield number, {"step": step, **named}
            cells = []
        elif text.startswith("┃"):
            parts = [one.strip() for one in text.strip("┃").split("┃")]
            more = len(parts) == len(header)
            header = [a + b for a, b in zip(header, parts, strict=True)] if more else parts
        elif text.startswith("│"):
            inner = text.removeprefix("│").removesuffix("│")
            cells.append([one.strip() for one in inner.split("│")])


def _value(text: str) -> str | float:
    """A number where it is one: each reward has a column."""
    try:
        return float(text)
    except ValueError:
        return text


def _nested(text: str) -> bool:
    """Whether a line of a table stands in a frame."""
    return bool(re.match(r"^│ [┏┃┡│├└┌]", text))


__all__ = ["EXAMPLES", "shown_kind", "shown_rows"]
