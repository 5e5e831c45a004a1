"""Semantic IDs in texts: `<a_1><b_7><c_2>`, as MiniOneRec, OpenOneRec and this project write them.

A code is a tag that ends in a number. Wrappers are none: `<think>`, `</think>`, `<answer>`,
`<|sid_begin|>`. What stands before the last `</think>` is thought, not an answer. A text may hold
several IDs in a row: a new one begins where the first code's letters come again, or at
`<|sid_begin|>`. Where targets and answers are nothing but three to eight numbers (`12-45-7`,
`[12, 45, 7]`), those are the codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from recast.common_prefix import leading

CODE = r"<[A-Za-z_]{0,24}-?\d{1,12}>"
_TOKEN = r"<\|sid_begin\|>|" + CODE
_TOKENS = re.compile(_TOKEN)
_LETTERS = re.compile(r"^<([A-Za-z_]*)")
_NO_LETTERS = "-0123456789>"
"""What ends a code: before it stand `<` and its letters."""
_THOUGHT = re.compile(r"(?s)^.*</think>")
_PLAIN = r"^[\[(\s]*\d{1,6}(?:(?:-|_|,\s*|\s+)\d{1,6}){2,7}[\])\s]*$"
_NUMBER = re.compile(r"\d+")
MOST_TARGETS = 64
CodeTexts = tuple[str, ...]


def ids(tokens: Sequence[str]) -> list[CodeTexts]:
    """Codes in a row, taken apart into IDs."""
    found: list[CodeTexts] = []
    current: list[str] = []
    first, second = "", ""
    for token in tokens:
        if token == "<|sid_begin|>":
            if current:
                found.append(tuple(current))
            current = []
            continue
        letters = _LETTERS.match(token)
        mine = letters[1] if letters else ""
        if len(current) == 1:
            second = mine
        if current and len(current) > 1 and mine and mine == first != second:
            found.append(tuple(current))
            current = []
        if not current:
            first = mine
        current.append(token)
    if current:
        found.append(tuple(current))
    return [one for one in found if len(one) > 1]


def codes(written: str) -> CodeTexts:
    """The codes of the first ID of an answer; the whole text where it has none."""
    answer = _THOUGHT.sub("", written)
    there = ids(_TOKENS.findall(answer))
    return there[0] if there else (answer.strip(),)


def targets(written: str | None) -> list[str]:
    """The ground truths of a prompt: the texts of a JSON list, else the one text; none where a log
    does not say."""
    if written is None or written == "":
        return []
    if written.startswith("["):
        try:
            said = json.loads(written)
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, list) and said and all(isinstance(one, str) for one in said):
            return said
    return [written]


def target_codes(wanted: Sequence[str]) -> list[CodeTexts]:
    """Every ID of the ground truths, or their whole texts."""
    found: list[CodeTexts] = []
    for one in wanted[:MOST_TARGETS]:
        there = ids(_TOKENS.findall(one))
        found += there or [(one.strip(),)]
    return found[:MOST_TARGETS]


def nearest(own: CodeTexts, wanted: Sequence[CodeTexts]) -> tuple[int, int]:
    """Leading codes of an ID that agree with the nearest target, and how many the target has."""
    best, depth = -1, 1
    for there in wanted:
        same = leading(own, there)
        same = min(same, len(there) - 1) if len(own) != len(there) else same
        if same > best:
            best, depth = same, len(there)
    return min(best, 32767), min(depth, 32767)


def agreement(prediction: str | None, wanted: Sequence[str]) -> tuple[int | None, int | None]:
    """`nearest` of two texts; None where there is no prediction or no target."""
    if prediction is None or not wanted:
        return None, None
    return nearest(codes(prediction), target_codes(wanted))


def agreements(prediction: pl.Series, target: pl.Series) -> pl.DataFrame:
    """matched, depth (Int16) and format (Float32: the answer's ID has as many codes as the target;
    null where targets have no codes) of every row."""
    both = prediction.is_not_null() & target.is_not_null() & (target != "")
    coded = target.str.contains(CODE).fill_null(False)
    answer = prediction
    if prediction.str.contains("</think>", literal=True).any():
        answer = prediction.str.replace(r"(?s)^.*</think>", "")
    if not coded.any() and _are_numbers(answer, target, both):
        return _by_code(answer, answer.str.extract_all(r"\d+"), target, _number_codes)
    if not coded.any() and not target.str.starts_with("[").any():
        same = answer.str.strip_chars()
        equal = (same == target.str.strip_chars()).cast(pl.Int16).set(~both, None)
        one = pl.Series([1] * len(target), dtype=pl.Int16).set(~both, None)
        return pl.DataFrame(
            {"matched": equal, "depth": one, "format": one.cast(pl.Float32).set(both, None)}
        )
    return _by_code(answer, answer.str.extract_all(_TOKEN), target, _tag_codes)


def _tag_codes(written: str) -> list[CodeTexts]:
    return target_codes(targets(written))


def _number_codes(written: str) -> list[CodeTexts]:
    return [tuple(_NUMBER.findall(written))]


def _are_numbers(answer: pl.Series, target: pl.Series, both: pl.Series) -> bool:
    """Whether targets and nearly all answers are IDs in plain numbers: `12-45-7`, `[12, 45, 7]`."""
    mine, wanted = answer.filter(both), target.filter(both)
    if mine.is_empty() or not wanted.str.contains(_PLAIN).all():
        return False
    return int(mine.str.contains(_PLAIN).sum()) >= 0.9 * len(mine)


def _by_code(
    answer: pl.Series,
    tokens: pl.Series,
    target: pl.Series,
    codes_of: Callable[[str], list[CodeTexts]],
) -> pl.DataFrame:
    """`agreements` of answers whose codes are `tokens`: all rows of one ID and one target at once,
    the others a row at a time."""
    wanted = {one: codes_of(one) for one in target.unique().to_list() if one}
    rows = pl.DataFrame({"said": answer, "mine": tokens, "target": target})
    found = _of_one_id(rows, wanted, codes_of is _tag_codes)
    rest = (found["matched"].is_null() & answer.is_not_null() & (target != "")).fill_null(False)
    place = rest.arg_true()
    left: list[tuple[int, int, float | None]] = []
    for said, mine, want in rows.filter(rest).iter_rows():
        first = ids(mine) if codes_of is _tag_codes else [tuple(mine)] * bool(mine)
        own = first[0] if first else (said.strip(),)
        agree, depth = nearest(own, wanted[want])
        left.append((agree, depth, float(len(own) == depth) if depth > 1 else None))
    read = pl.DataFrame(left, schema=found.schema, orient="row")
    return found.with_columns(one.scatter(place, read[one.name]) for one in found.iter_columns())


def _of_one_id(
    rows: pl.DataFrame, wanted: Mapping[str, list[CodeTexts]], tagged: bool
) -> pl.DataFrame:
    """`agreements` where both sides are surely one ID of two to eight codes; nulls elsewhere.

    rows: said, mine (codes), target. tagged: a further ID would begin at the first code's letters.
    """
    alone = {one: list(there[0]) for one, there in wanted.items() if len(there) == 1}
    known = pl.DataFrame(
        {"target": list(alone), "want": list(alone.values())},
        schema={"target": pl.String, "want": pl.List(pl.String)},
    )
    lengths = [*map(len, alone.values()), *rows["mine"].list.len().drop_nulls().unique()]
    most = range(min(8, max(lengths, default=0)))
    mine, want = pl.col("mine"), pl.col("want")
    own, depth = mine.list.len(), want.list.len()
    rows = rows.join(known, on="target", how="left", maintain_order="left").select(
        *(mine.list.get(i, null_on_oob=True).alias(f"mine_{i}") for i in most),
        *(want.list.get(i, null_on_oob=True).alias(f"want_{i}") for i in most),
        own=own,
        depth=depth,
        sure=own.is_between(2, 8) & depth.is_between(2, 8) & pl.col("said").is_not_null(),
        begins=mine.list.contains("<|sid_begin|>"),
    )
    sure = pl.col("sure")
    if tagged and len(most) > 2:
        head, *more = (pl.col(f"mine_{i}").str.strip_chars_end(_NO_LETTERS) for i in most)
        again = pl.any_horizontal((one == head).fill_null(False) for one in more[1:])
        split = again & (head != "<") & (head != more[0]).fill_null(True)
        sure &= ~split
    if tagged:
        sure &= ~pl.col("begins")
    agree, same = pl.lit(True), pl.lit(0, pl.Int16)
    for i in most:
        agree &= (pl.col(f"mine_{i}") == pl.col(f"want_{i}")).fill_null(False)
        same += agree.cast(pl.Int16)
    own, depth = pl.col("own"), pl.col("depth")
    same = pl.when(own == depth).then(same).otherwise(pl.min_horizontal(same, depth - 1))
    found = {"matched": same, "depth": depth, "format": (own == depth).cast(pl.Float32)}
    return rows.with_columns(sure=sure).select(
        pl.when("sure").then(one).cast(pl.Float32 if name == "format" else pl.Int16).alias(name)
        for name, one in found.items()
    )


__all__ = ["agreement", "agreements", "codes", "targets"]
