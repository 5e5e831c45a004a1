"""What a log file holds, told by its first bytes and not by its name."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal

from workbench.diagnosis.logs import tensors
from workbench.diagnosis.logs.packed import DAMAGED, packing_of, unpacked
from workbench.diagnosis.logs.printed_rollouts import holds_printed
from workbench.diagnosis.logs.problems import Problems
from workbench.diagnosis.logs.shown_rollouts import shown_kind

FileKind = Literal["parquet", "jsonl", "json", "csv", "sqlite", "torch", "arrow", "printed",
                   "marked", "drawn"]  # fmt: skip

HEAD = 65536
"""Bytes by which a file is told what it is."""

SEPARATORS = ",\t;|"
"""What may stand between the fields of a line."""

ARROW_FILE, _ARROW_STREAM = b"ARROW1", b"\xff\xff\xff\xff"

_OTHER = {
    b":W&B": "wandb's own record of a run; open the run with wandb and export its table or history",
    b"\x93NUMPY": "a numpy array; write its rows as JSON lines",
    **dict.fromkeys(
        (b"\x80\x02}", b"\x80\x02c", b"\x80\x03c", b"\x80\x04\x95", b"\x80\x05\x95"),
        "a pickle, which is never opened; write its rows as JSON lines",
    ),
    b"\x89HDF": "HDF5; write its rows as JSON lines or parquet",
}
"""Files of which only another program makes a log."""

_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf": "a 7z archive",
}


def kind_of(path: Path, name: str, problems: Problems) -> FileKind | None:
    """What a file holds by its first bytes; None, with a problem noted, for what is no table."""
    try:
        with unpacked(path) as stream:
            head = stream.read(HEAD) or stream.read(1)
            damaged = len(head) < HEAD and _ends_badly(stream)
    except DAMAGED:
        problems.file(name, f"damaged {packing_of(path)}")
        return None
    except (OSError, ValueError) as problem:
        problems.file(name, f"cannot be opened ({getattr(problem, 'strerror', None) or problem})")
        return None
    if not head.strip():
        problems.file(name, "the file is empty")
        return None
    packing = packing_of(path)
    if packing and head[:4] in (b"PAR1", b"SQLi", b"PK\x03\x04"):
        problems.file(name, f"{packing}-compressed; unpack it first")
        return None
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"SQLite format 3\x00"):
        return "sqlite"
    if head.startswith(b"PK\x03\x04") and tensors.is_torch(path):
        return "torch"
    if head.startswith((ARROW_FILE, _ARROW_STREAM)):
        return "arrow"
    if head[257:262] == b"ustar":
        problems.file(name, "a tar archive; unpack it first")
        return None
    for magic, words in _OTHER.items():
        if head.startswith(magic):
            problems.file(name, words)
            return None
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        problems.file(name, "a spreadsheet; save its sheet as CSV")
        return None
    for magic, words in _ARCHIVES.items():
        if head.startswith(magic):
            problems.file(name, f"{words}; unpack it first")
            return None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if kind := _told(text):
        return kind
    if text.startswith(b"["):
        return "jsonl" if _is_lists(text) else "json"
    if text.startswith(b"{"):
        return "json" if _is_document(text) else "jsonl"
    line = text.split(b"\n", 1)[0]
    if b"\x00" in head or not any(one in line for one in SEPARATORS.encode()):
        what = f"damaged {packing}" if damaged else "neither parquet, JSONL nor CSV with a header"
        problems.file(name, what)
        return None
    return "csv"


def _ends_badly(stream: BinaryIO) -> bool:
    """Whether a stream is damaged at what seems to be its end."""
    try:
        stream.read(1)
    except DAMAGED:
        return True
    return False


def _told(text: bytes) -> FileKind | None:
    """The kind of a text in which rollouts were printed or shown; None for any other."""
    if shown := shown_kind(text.decode("utf-8", "replace")):
        return "marked" if shown == "marked" else "drawn"
    return "printed" if holds_printed(text) else None


def _is_lists(text: bytes) -> bool:
    """Whether every line is an array of its own."""
    first, _, rest = text.partition(b"\n")
    return first.rstrip().endswith(b"]") and rest.lstrip().startswith(b"[")


def _is_document(text: bytes) -> bool:
    """Whether a JSON object goes on over several lines: its first line is no whole object."""
    line = text.split(b"\n", 1)[0].strip()
    return (len(line) < len(text.strip()) and line in (b"{", b"{}")) or line.endswith(
        (b"{", b"[", b",")
    )
