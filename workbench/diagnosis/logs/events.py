"""TensorBoard's event files, read without TensorBoard: numbers by step and tag.

A file is a row of records: length (8 bytes, little-endian), its checksum (4), the record, the
record's checksum (4). A record is a protocol-buffer `Event`: field 2 is the step, field 5 a summary
of values; a value has a tag (1) and a float (2) or a tensor (8) of one number. Checksums are not
checked; a record that breaks off ends the file. Source: tensorflow/core/util/event.proto and
framework/summary.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

LARGEST = 64_000_000
Field = tuple[int, int | bytes]


def is_events(head: bytes) -> bool:
    """Whether a file with these first bytes is one: its first record names its version."""
    return len(head) > 40 and b"brain.Event:" in head[:64]


def scalars_of(path: Path) -> Iterator[tuple[int, str, float]]:
    """Step, tag and value of each number. Raises OSError."""
    with path.open("rb") as stream:
        while len(head := stream.read(12)) == 12:
            (length,) = struct.unpack("<Q", head[:8])
            if length > LARGEST:
                return
            record = stream.read(length)
            if len(record) < length or len(stream.read(4)) < 4:
                return
            try:
                yield from _event(record)
            except (ValueError, IndexError, struct.error):
                return


def _event(record: bytes) -> Iterator[tuple[int, str, float]]:
    step, summaries = 0, []
    for number, value in _fields(record):
        if number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for number, value in _fields(summary):
            if number == 1 and isinstance(value, bytes) and (said := _value(value)):
                yield step, *said


def _value(content: bytes) -> tuple[str, float] | None:
    tag, found = "", None
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            tag = value.decode("utf-8", "replace")
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            (found,) = struct.unpack("<f", value)
        elif number == 8 and isinstance(value, bytes):
            found = _tensor(value)
    return (tag, found) if tag and found is not None else None


def _tensor(content: bytes) -> float | None:
    """The number of a tensor that holds one: kind 1 (float) or 2 (double)."""
    kind, raw = 0, b""
    for number, value in _fields(content):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number in (4, 5, 6) and isinstance(value, bytes):
            raw = value
    width = {1: 4, 2: 8}.get(kind)
    if width is None or len(raw) != width:
        return None
    return float(struct.unpack("<f" if width == 4 else "<d", raw)[0])


def _fields(content: bytes) -> Iterator[Field]:
    """The fields of a message: whole numbers as such, all others as their bytes."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(content, at)
            yield key >> 3, number
            continue
        if kind == 2:
            length, at = _varint(content, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("a field of an unknown kind")
        if at + length > len(content):
            raise ValueError("a field that breaks off")
        yield key >> 3, content[at : at + length]
        at += length


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number without an end")


__all__ = ["is_events", "scalars_of"]
