"""Columns of any type as numbers, texts or hashes: all rows at once, whatever a trainer wrote.

JSON and CSV arrive as text columns (a number, a list or an object as its JSON text), parquet with
its own types.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from recast.quoting import plain_line

VERDICTS = {
    **dict.fromkeys(("true", "yes", "correct", "right", "pass", "passed", "success"), "1"),
    **dict.fromkeys(("false", "no", "incorrect", "wrong", "fail", "failed", "failure"), "0"),
}
"""Words that say whether an answer was right."""

OUTCOME_WORDS = re.compile(r"correct|accura|exact_match|solved|success")
"""In the name of a column of flags, or of a reward function: it judges the answer."""

_PAID = re.compile(r"(?:^|_)(?:reward|return)s?(?:_|$)")
_NOT_PAID = re.compile(
    r"mean|std|avg|average|max|min|baseline|weight|model|count|norm|group|batch|^raw_|type|name"
)

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_GAP = re.compile(r"[\s\-]+")


_WRAPPED = (
    r"^(?:tensor|array|(?:np|numpy)\.[a-z_0-9]+)\(\[? *"
    r"(-?(?:[0-9.]+(?:e[+-]?[0-9]+)?|true|false))\b.*\)$"
)
"""A number in the words in which Python prints a tensor, or numpy's."""


_FRACTION = r"^(?<of>-?[0-9]+(?:\.[0-9]*)?) ?/ ?(?<all>[0-9]+(?:\.[0-9]*)?)$"
_PERCENT = r"^(-?[0-9]+(?:\.[0-9]*)?) ?%$"


def plain_name(column: str) -> str:
    """A column's name as trainers write it: `Total Reward` and `totalReward` are `total_reward`."""
    name = _HUMP.sub("_", column.strip())
    return _GAP.sub("_", name).lower()


def is_paid(low: str) -> bool:
    """Whether a column's plain name says that it is a reward, and no figure of a group."""
    return bool(_PAID.search(low)) and not _NOT_PAID.search(low)


def numbers(column: pl.Series) -> pl.Series:
    """Float64: finite numbers, also as text or as Python prints a tensor of one, shares (`3/5`,
    `60%`), `VERDICTS` as 1 and 0; a list of one number is that number. Null for all else."""
    if isinstance(column.dtype, pl.List | pl.Array):
        column = _only(column.cast(pl.List(column.dtype.inner)))
    if column.dtype == pl.String:
        found = column.cast(pl.Float64, strict=False)
        if found.null_count() == column.null_count():
            return found.set(~found.is_finite().fill_null(False), None)
        said = column.str.strip_chars(' \t\r\n[]"').str.to_lowercase()
        wrapped = said.str.ends_with(")")
        if wrapped.any():
            said = said.zip_with(~wrapped.fill_null(False), said.str.extract(_WRAPPED))
        said = said.replace(VERDICTS)
        found = said.cast(pl.Float64, strict=False)
        if found.null_count() > said.null_count():
            found = found.fill_null(_fractions(said))
    elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
        found = column.cast(pl.Float64, strict=False)
    else:
        found = pl.Series(column.name, [None] * len(column), dtype=pl.Float64)
    return found.set(~found.is_finite().fill_null(False), None)


def _fractions(said: pl.Series) -> pl.Series:
    """Texts such as `3/5`, `1.0 / 1.0` and `60%` as the share that they mean."""
    part = pl.col("x").str.extract_groups(_FRACTION).struct
    upper, lower = (part.field(name).cast(pl.Float64, strict=False) for name in ("of", "all"))
    percent = pl.col("x").str.extract(_PERCENT).cast(pl.Float64, strict=False) / 100
    share = pl.when(lower > 0).then(upper / lower).otherwise(percent)
    return pl.DataFrame({"x": said}).select(share).to_series()


def _only(column: pl.Series) -> pl.Series:
    """The one entry of each list, null where it has none or several."""
    frame = pl.DataFrame({"x": column})
    one = pl.when(pl.col("x").list.len() == 1).then(pl.col("x").list.first())
    return frame.select(one).to_series().alias(column.name)


def texts(column: pl.Series) -> pl.Series:
    """String: text as it is, lists and objects as JSON text, numbers as written."""
    if column.dtype == pl.String:
        return column
    if column.dtype.is_nested():
        frame = pl.DataFrame({"x": column})
        known = column.is_not_null()
        packed = frame.select(pl.struct("x").struct.json_encode()).to_series()
        inner = packed.str.slice(5).str.head(-1)
        return inner.set(~known, None).alias(column.name)
    if column.dtype == pl.Categorical or column.dtype == pl.Enum:
        return column.cast(pl.String)
    if column.dtype in (pl.Binary, pl.Duration):
        return pl.Series(column.name, [None] * len(column), dtype=pl.String)
    return column.cast(pl.String, strict=False)


def as_text(value: Any) -> str | None:
    """One value as the text that JSON Lines read at once would have: null stays null."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, (bool, int, float)):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return str(value)[:1000]


def number(value: Any) -> float | None:
    """`finite_number`, also of a verdict in words."""
    if isinstance(value, str):
        value = VERDICTS.get(value.strip().lower(), value)
    return finite_number(value)


def finite_number(value: Any) -> float | None:
    """A finite number, also one written as text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def first_there(found: Sequence[pl.Series], height: int, kind: Any) -> pl.Series:
    """In each row the first value that is there."""
    if not found:
        return pl.Series([None] * height, dtype=kind)
    first = found[0]
    for other in found[1:]:
        if not first.null_count():
            break
        first = first.zip_with(first.is_not_null(), other)
    return first


def null_false(column: pl.Series) -> pl.Series:
    """The truth of each row, False where nothing is said."""
    return column.fill_null(False)


def task_names(column: pl.Series) -> pl.Series:
    """Names of tasks as printable lines, "all" where none is logged."""
    filled = column.set(column == "", None).fill_null("all")
    names = {name: plain_line(name, 60) for name in filled.unique()}
    return filled.replace_strict(names, return_dtype=pl.String)


def frame_of(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> pl.DataFrame:
    """Rows as text columns; a column that a row lacks is null there."""
    return pl.DataFrame(
        {name: [_clean(as_text(row.get(name))) for row in rows] for name in columns},
        schema=dict.fromkeys(columns, pl.String),
    )


def is_text(name: str) -> bool:
    """Whether a table can have a column of that name: no half of a surrogate pair is in it."""
    return name.isascii() or name == _clean(name)


def _clean(written: str | None) -> str | None:
    """Half of a surrogate pair is no text that a table can hold."""
    if written is None or written.isascii():
        return written
    return written.encode("utf-8", "replace").decode()


__all__ = ["as_text", "frame_of", "is_paid", "is_text", "number", "numbers", "plain_name", "texts"]
