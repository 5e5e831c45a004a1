"""Data of the real-model path: which rows teach, which tune, which report.

SFT learns from train; RL from the rows of 80% of the validation split's users; learning rate and
checkpoint are chosen on the other 20%; the test split reports. Items that share a semantic ID are
one item here. Reads MiniOneRec's folder layout and OpenOneRec's RecIF parquet files.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recast.code_names import FAMILIES, MINIONEREC, CodeNames
from recast.items import Codes, DataFolder, Interaction, read_folder
from recast.lm.optional_extra import LMError, require

TUNING_SHARE = 0.2
POPULAR_SHARE = 0.1
_RECIF = re.compile(r"<\|sid_begin\|>((?:<s_[a-h]_\d+>)+)<\|sid_end\|>")
_RECIF_CODE = re.compile(r"<s_([a-h])_(\d+)>")
RECIF_NAMES = CodeNames("<s_", "_", ">", FAMILIES[0])
_ROWS_AT_ONCE, _SMALL = 128, 128_000_000
"""Rows of a parquet file in memory at once, and the bytes that they, or an unpacked column of any
packing, may take."""
_MOST_PACKED, _MOST_VALUES = 200, 20_000_000
"""How many times its packed size a larger column may be, and its values in a group of rows."""
_RECIF_SPLITS = {"train": ("train",), "valid": ("valid", "val", "dev"), "test": ("test",)}


@dataclass(frozen=True)
class LMData:
    """name: the folder's; sids: distinct semantic IDs, sorted; sft, learning, tuning, test: the
    rows of each role; seen: IDs that occur in train; popular: the tenth of them that occurs most
    often there; names: how the files spell codes."""

    name: str
    sids: tuple[Codes, ...]
    codebook: int
    sft: tuple[Interaction, ...]
    learning: tuple[Interaction, ...]
    tuning: tuple[Interaction, ...]
    test: tuple[Interaction, ...]
    seen: frozenset[Codes]
    popular: frozenset[Codes]
    names: CodeNames = field(default=MINIONEREC, compare=False)

    @property
    def depth(self) -> int:
        """Codes per semantic ID, L."""
        return len(self.sids[0])

    @property
    def fingerprint(self) -> str:
        """A hash of the catalogue; a checkpoint carries it."""
        return hashlib.sha256(json.dumps([self.codebook, self.sids]).encode()).hexdigest()[:16]

    def slices(self, rows: Sequence[Interaction]) -> dict[str, list[bool]]:
        """Which rows belong to each slice: seen / new targets, popular / rare ones among the seen,
        and each task by its name where the data names several."""
        tasks = sorted({row.task for row in rows})
        seen = [row.target in self.seen for row in rows]
        popular = [row.target in self.popular for row in rows]
        return {
            "seen": seen,
            "new": [not s for s in seen],
            "popular": popular,
            "rare": [s and not p for s, p in zip(seen, popular, strict=True)],
            **{
                f"task {task or 'unnamed'}": [row.task == task for row in rows]
                for task in tasks
                if len(tasks) > 1
            },
        }


def load_data(
    folder: Path, codebook: int | None = None, seed: int = 0, category: str | None = None
) -> LMData:
    """Read a data folder for training. Raises LMError, one line, for data that cannot be used, and
    where no row has one of the roles."""
    name = folder.name if category is None else f"{folder.name}/{category}"
    data = split_roles(name, read_any(folder, codebook, category), seed)
    roles = {
        "in train": data.sft,
        "of valid to learn from": data.learning,
        "of valid to tune on": data.tuning,
        "in test": data.test,
    }
    if empty := [role for role, rows in roles.items() if not rows]:
        users = len({row.user for row in (*data.learning, *data.tuning)})
        raise LMError(
            f"{folder}: no rows {empty[0]}; valid has {users} users, of whom a fifth (by a hash) "
            "tune and the others teach; expected twenty or more"
        )
    return data


def split_roles(name: str, data: DataFolder, seed: int = 0) -> LMData:
    """Give each row its role. A validation user tunes when a hash of (seed, user) says so."""
    counts = Counter(sid for row in data.train for sid in (*row.history, row.target))
    ranked = sorted(counts, key=lambda sid: (-counts[sid], sid))
    return LMData(
        name=name,
        sids=data.sids,
        codebook=data.codebook,
        sft=data.train,
        learning=tuple(row for row in data.valid if not tunes(row.user, seed)),
        tuning=tuple(row for row in data.valid if tunes(row.user, seed)),
        test=data.test,
        seen=frozenset(counts),
        popular=frozenset(ranked[: max(1, round(POPULAR_SHARE * len(ranked)))]),
        names=data.names,
    )


def tunes(user: str, seed: int) -> bool:
    """Whether a validation user belongs to the tuning fifth."""
    digest = hashlib.sha256(f"{seed}/tuning/{user}".encode()).digest()
    return int.from_bytes(digest[:4], "little") < TUNING_SHARE * 2**32


def read_any(folder: Path, codebook: int | None = None, category: str | None = None) -> DataFolder:
    """MiniOneRec's layout when the folder has `index/`, RecIF parquet otherwise.

    category: as in `read_folder`; codebook: codes per level; by default 256, or 8192 for RecIF.
    Raises LMError, one line.
    """
    try:
        if folder.is_dir() and not (folder / "index").is_dir() and list(folder.glob("*.parquet")):
            return read_recif(folder, codebook or 8192)
        return read_folder(folder, codebook or 256, category)
    except LMError:
        raise
    except ValueError as problem:
        raise LMError(str(problem)) from None


def read_recif(folder: Path, codebook: int = 8192) -> DataFolder:
    """Files `*train*.parquet`, `*valid*.parquet`, `*test*.parquet` with uuid and messages.

    The distinct IDs of the assistant's last message, after its thought where there is one, are the
    targets; those of the messages before it are the history.
    Without a file for valid, a fifth of train's users (by a hash) are it.
    A row keeps them all; a row of train, which supervised training reads, becomes one interaction
    per target. `source`, where there is such a column, is the task. The catalogue is every ID that
    occurs, so it has no collisions to report. Raises LMError, one line with file and row.
    """
    require("pyarrow.parquet")
    splits = {}
    for split, words in _RECIF_SPLITS.items():
        found = [p for p in sorted(folder.glob("*.parquet")) if any(w in p.stem for w in words)]
        if not found and split == "valid":
            continue
        if not found:
            raise LMError(f"{folder}: expected a *{split}*.parquet file, found none")
        rows: list[Interaction] = []
        for path in found:
            for place, row in enumerate(_raw_rows(path)):
                rows.append(_recif_row(row, f"{path}: row {place}", codebook))
        splits[split] = tuple(rows)
    if "valid" not in splits:
        splits["valid"] = tuple(row for row in splits["train"] if tunes(row.user, 1))
        splits["train"] = tuple(row for row in splits["train"] if not tunes(row.user, 1))
    apart = [replace(row, target=s, more=()) for row in splits["train"] for s in row.targets]
    splits["train"] = tuple(apart)
    everything = {
        sid for rows in splits.values() for row in rows for sid in (*row.history, *row.targets)
    }
    if len({len(sid) for sid in everything}) != 1:
        raise LMError(f"{folder}: semantic IDs of different depths")
    return DataFolder(
        items=len(everything),
        sids=tuple(sorted(everything)),
        collisions=0,
        codebook=codebook,
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
        names=RECIF_NAMES,
    )


def _raw_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a RecIF file, a few at a time, none of which may become much larger than it is on
    the disk. Raises LMError, one line."""
    parquet = require("pyarrow.parquet")
    strange = require("pyarrow").ArrowException
    try:
        if not path.is_file():
            raise ValueError("no regular file")
        with parquet.ParquetFile(path) as file:
            for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
                for column in map(group.column, range(group.num_columns)):
                    packed, whole = column.total_compressed_size, column.total_uncompressed_size
                    if column.num_values > _MOST_VALUES or whole > _SMALL + _MOST_PACKED * packed:
                        raise ValueError("a column becomes far larger than it is in the file")
            names = set(file.schema_arrow.names)
            if lacking := {"uuid", "messages"} - names:
                raise ValueError(f"no column {' and '.join(sorted(lacking))}")
            wanted = ["uuid", "messages", *({"source"} & names)]
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted):
                if batch.nbytes > _SMALL:
                    raise ValueError(f"rows of more than {_SMALL // _ROWS_AT_ONCE:,} bytes each")
                yield from batch.to_pylist()
    except (OSError, ValueError, strange) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise LMError(f"{path}: not RecIF parquet (uuid, messages): {reason}") from None


def _recif_row(row: dict[str, Any], where: str, codebook: int) -> Interaction:
    texts = read_messages(row["messages"], where)
    shown = [without_thought(text) if role == "assistant" else text for role, text in texts]
    answer = max(
        (i for i, (role, _) in enumerate(texts) if role == "assistant"), default=len(texts)
    )
    asked = tuple(_recif_ids(shown[:answer], where, codebook))
    answers = _recif_ids(shown[answer : answer + 1], where, codebook)
    if not answers:
        raise LMError(f"{where}: the assistant's message holds no <|sid_begin|>...<|sid_end|>")
    task = str(row.get("source") or "")
    first, *more = dict.fromkeys(answers)
    return Interaction(str(row["uuid"]), asked, first, task, tuple(more))


def read_messages(messages: Any, where: str) -> list[tuple[str, str]]:
    """Role and text of each message of a RecIF row: a list, or the text of one, as JSON or as
    Python writes it. Raises LMError, one line, which says `where`."""
    try:
        if isinstance(messages, str):
            try:
                messages = json.loads(messages)
            except ValueError:
                messages = ast.literal_eval(messages)
        return [(str(m["role"]), _text(m["content"])) for m in messages]
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError) as problem:
        reason = " ".join(str(problem).split())[:100]
        raise LMError(f"{where}: messages are not a list of role and content: {reason}") from None


def without_thought(text: str) -> str:
    """An answer less its thought; of a thought that does not end nothing is an answer."""
    return text.rpartition("</think>")[2].partition("<think>")[0]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)


def _recif_ids(texts: Iterable[str], where: str, codebook: int) -> list[Codes]:
    found = []
    for text in texts:
        for body in _RECIF.findall(text):
            pairs = _RECIF_CODE.findall(body)
            if "".join(letter for letter, _ in pairs) != "abcdefgh"[: len(pairs)]:
                raise LMError(f"{where}: {body[:60]!r} has its levels out of order")
            sid = tuple(int(code) for _, code in pairs)
            if max(sid) >= codebook:
                raise LMError(
                    f"{where}: code {max(sid)} lies outside the codebook 0..{codebook - 1}"
                )
            found.append(sid)
    return found
