"""Semantic IDs and the reader of a published data folder (standard library only).

The folder has MiniOneRec's layout: `train/`, `valid/`, `test/` with one CSV each (columns
user_id, history_item_sid, item_sid) and `index/*.index.json`, item -> codes `<a_1> <b_2> <c_3>`, or
codes in another regular spelling (`recast.code_names`), which the CSV files must share.
"""

from __future__ import annotations

import ast
import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from recast.code_names import MINIONEREC, CodeNames, names_of
from recast.code_names import Codes as Codes

COLUMNS = ("user_id", "history_item_sid", "item_sid")
LARGEST = 500_000_000
"""Bytes of one file of a data folder."""


@dataclass(frozen=True)
class Interaction:
    """One logged step: who, what came before (oldest first), what came next, for which task
    (empty where the data names none), and further right answers, distinct, where there are any."""

    user: str
    history: tuple[Codes, ...]
    target: Codes
    task: str = ""
    more: tuple[Codes, ...] = ()

    @property
    def targets(self) -> tuple[Codes, ...]:
        """Every right answer, the first one first."""
        return (self.target, *self.more)


@dataclass(frozen=True)
class DataFolder:
    """items: number of catalogue items; sids: distinct semantic IDs, sorted; collisions: items
    that share their ID with an earlier one; codebook: codes per level, K; names: how the files
    spell codes."""

    items: int
    sids: tuple[Codes, ...]
    collisions: int
    codebook: int
    train: tuple[Interaction, ...]
    valid: tuple[Interaction, ...]
    test: tuple[Interaction, ...]
    names: CodeNames = field(default=MINIONEREC, compare=False)


def read_sid(text: str, depth: int | None = None, names: CodeNames = MINIONEREC) -> Codes:
    """`"<a_255><b_93><c_5>"` -> (255, 93, 5).

    Raises ValueError when the text is not a semantic ID, its levels are out of order, or its
    depth is not the one asked for.
    """
    found = names.read(text.strip())
    if found is None:
        like = names.joined((1, 2, 3))
        raise ValueError(f"{text[:60]!r} is not a semantic ID such as {like!r}")
    if depth is not None and len(found) != depth:
        raise ValueError(f"{text[:60]!r} has {len(found)} codes; expected {depth}")
    return found


def read_index(path: Path) -> tuple[CodeNames, dict[str, Codes]]:
    """How an index spells its codes, and the semantic ID of each item, in the file's order.

    Raises ValueError, one line, for a file that is no such index.
    """
    try:
        index = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(index, dict):
            raise ValueError("expected an object, item -> its codes")
        first = next(iter(index.values()), ())
        names = names_of(first) or MINIONEREC
        listed = {str(i): read_sid("".join(codes), None, names) for i, codes in index.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as problem:
        raise ValueError(f"{path}: not an index of item -> codes: {problem}") from None
    if not listed:
        raise ValueError(f"{path}: the index holds no items")
    return names, listed


def read_folder(folder: Path, codebook: int = 256, category: str | None = None) -> DataFolder:
    """Read and check a whole data folder. category: which one, by the start of its files' names,
    where the folder holds several.

    Raises ValueError, one line with file and row, for a missing file, missing columns, an
    unreadable ID, or an ID outside the codebook or the index.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected train/, valid/, test/ and index/")
    path = _only(folder / "index", "*.index.json", category)
    names, index = read_index(path)
    listed = list(index.values())
    depth = len(listed[0])
    for item, sid in index.items():
        if len(sid) != depth:
            raise ValueError(f"{path}: item {item} has {len(sid)} codes; the first has {depth}")
        if max(sid) >= codebook:
            raise ValueError(
                f"{path}: item {item}: code {max(sid)} lies outside the codebook 0..{codebook - 1}"
            )
    counts = Counter(listed)
    splits = {
        split: _read_split(_only(folder / split, "*.csv", category), depth, counts, names)
        for split in ("train", "valid", "test")
    }
    return DataFolder(
        items=len(listed),
        sids=tuple(sorted(counts)),
        collisions=len(listed) - len(counts),
        codebook=codebook,
        names=names,
        **splits,
    )


def _only(folder: Path, pattern: str, category: str | None) -> Path:
    every = sorted(folder.glob(pattern)) if folder.is_dir() else []
    found = [path for path in every if path.name.startswith(category or "")]
    if len(found) != 1 and len(every) > 1:
        names = ", ".join(path.name.removesuffix(pattern[1:]) for path in every)
        wanted = "choose one" if category is None else f"{category!r} is none of them or not one"
        raise ValueError(
            f"{folder}: several categories ({names}); expected exactly one, or {wanted} with "
            "--category"
        )
    if len(found) != 1:
        raise ValueError(f"{folder}: expected exactly one {pattern} file, found {len(found)}")
    if not found[0].is_file():
        raise ValueError(f"{found[0]}: no regular file")
    if found[0].stat().st_size > LARGEST:
        raise ValueError(f"{found[0]}: expected a file of at most {LARGEST:,} bytes")
    return found[0]


def _read_split(
    path: Path, depth: int, known: Counter[Codes], names: CodeNames
) -> tuple[Interaction, ...]:
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                have = ", ".join(reader.fieldnames or ())[:80]
                raise ValueError(f"{path}: missing column {', '.join(missing)}; it has {have!r}")
            for line, row in enumerate(reader, start=2):
                rows.append(_interaction(row, depth, known, names, f"{path}: row {line}"))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise ValueError(f"{path}: not a readable CSV file: {problem}") from None
    if not rows:
        raise ValueError(f"{path}: no rows")
    return tuple(rows)


def _listed(text: str | None) -> list[str]:
    """The texts of a history. Raises ValueError, one line, for what is no list of texts."""
    try:
        found = ast.literal_eval(text or "")
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"history {(text or '')[:40]!r} is not a list of IDs such as ['ID', 'ID']")
    return list(found)


def _interaction(
    row: dict[str, str], depth: int, known: Counter[Codes], names: CodeNames, where: str
) -> Interaction:
    try:
        history = tuple(read_sid(t, depth, names) for t in _listed(row["history_item_sid"]))
        target = read_sid(row["item_sid"] or "", depth, names)
    except ValueError as problem:
        raise ValueError(f"{where}: {problem}") from None
    for sid in (*history, target):
        if sid not in known:
            raise ValueError(f"{where}: {names.joined(sid)} is not in the index")
    return Interaction(str(row["user_id"]), history, target)
