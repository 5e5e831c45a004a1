"""Records that keep a rollout's fields in objects, under dotted names or as named scores: opened,
so that every field is a column.

Envelopes of structured logging (`{"ts", "event", "data": {...}}`), metadata of traces (RAGEN,
Langfuse), JSON flattened into a table (`output.reward`), scores as `[{"name", "value"}]`, and
rewards of turns beside one answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.diagnosis.logs.column_values import plain_name
from workbench.diagnosis.logs.formats.generic import FORMAT as GENERIC
from workbench.diagnosis.logs.layout import LogRow

FIELDS = ("step", "group", "prompt", "prediction", "reward", "advantage")
"""What is looked for in objects, where a record has it in no column of its own."""

DEEPEST = 2
"""Objects in objects that are looked into."""

CONVERSATIONS = ("messages", "messages_and_choices", "conversation", "conversations", "chat")

_OTHER = re.compile(r"tim(?:e|ing)|usage|config|args|setting|param|latency|perf|reward|score")
"""In the name of an object: what it holds are no fields of the rollout."""

_TURNS = re.compile(
    r"^(?:per_)?(?:turn|step|process|token)(?:_level|wise)?_(?:rewards|scores)$"
    r"|^(?:rewards|scores)_(?:per|by|of)_(?:turn|step|token)s?$"
)

_FIELD_OF = {column: name for name in FIELDS for column in GENERIC.names[name]}


def opened(row: LogRow) -> LogRow:
    """The record with what its objects hold as columns of their own; itself where nothing is to be
    opened."""
    found = _scored(row)
    there = {_FIELD_OF.get(plain_name(name), "") for name in found}
    if not {"prompt", "group"} & there and any(name in found for name in CONVERSATIONS):
        there |= {"prompt", "prediction"}
    inner: dict[str, Any] = {}
    for name, value in _inside(found):
        field = _FIELD_OF.get(plain_name(name), "")
        whole = field != "step" or _is_whole(value)
        # A bare `group` beside a prompt is the group of something else.
        other = field == "group" and plain_name(name) == "group" and "prompt" in there
        if field and field not in there and name not in inner and whole and not other:
            inner[name] = value
        elif not field and name not in found and _is_plain(value):
            inner.setdefault(name, value)
    if any(plain_name(name) in _FIELD_OF for name in inner):
        found = {**inner, **found}
    if "reward" not in {_FIELD_OF.get(plain_name(name), "") for name in found}:
        found = _turned(found)
    return found


def _inside(row: Mapping[str, Any], deep: int = 0) -> Iterator[tuple[str, Any]]:
    """What objects of a record hold, also objects in them and fields under dotted names."""
    for name, value in row.items():
        if isinstance(value, Mapping) and not _OTHER.search(plain_name(str(name))):
            yield from ((str(key), one) for key, one in value.items())
            if deep < DEEPEST:
                yield from _inside(value, deep + 1)
        elif deep:
            continue
        elif "." in name:
            outer, _, last = name.removesuffix(".value").removesuffix(".content").rpartition(".")
            if last and not _OTHER.search(plain_name(outer)):
                yield last, value


def _scored(row: LogRow) -> LogRow:
    """Scores that are named objects in a list, as one object."""
    for column, cells in row.items():
        if plain_name(column) not in ("reward", "rewards", "score", "scores"):
            continue
        if isinstance(cells, list) and cells and all(map(_is_named, cells)):
            return {**row, column: {str(one["name"]): one["value"] for one in cells}}
    return row


def _is_named(cell: Any) -> bool:
    return isinstance(cell, dict) and "name" in cell and "value" in cell


def _turned(row: LogRow) -> LogRow:
    """Rewards of turns, steps or tokens, added up."""
    for name, values in row.items():
        if not (_TURNS.match(plain_name(name)) and isinstance(values, list) and values):
            continue
        if all(isinstance(one, (bool, int, float)) for one in values):
            return {**row, "reward": sum(values)}
    return row


def _is_whole(value: Any) -> bool:
    try:
        return value is None or float(value) == int(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, bool, int, float))


__all__ = ["CONVERSATIONS", "opened"]
