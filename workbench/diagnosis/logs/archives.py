"""Zip and tar archives (a tar also packed): what may be a log in them, put into a folder.

An archive names its members as it likes: of a name only plain parts are used, links and devices are
passed over, and what is written is counted as it is written, whatever the archive says of sizes.
"""

from __future__ import annotations

import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple

from recast.quoting import plain_line
from workbench.diagnosis.logs import tensors
from workbench.diagnosis.logs.log_files import MOST_FILES, SUFFIXES, files_of
from workbench.diagnosis.logs.packed import DAMAGED, plain_suffix, unpacked
from workbench.errors import LogError

MOST_BYTES = 4_000_000_000
"""What is unpacked at most, of all archives of a log together."""

MOST_TIMES, SMALL = 200, 100_000_000
"""How many times as large an archive may become, and how many bytes more."""

ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_SHEETS = (".xlsx", ".ods", ".docx", ".npz")
_PIECE = 1 << 20
_PRINTED = (".log", ".out", ".txt", ".yaml", "")
"""Suffixes of what a trainer printed, and of MLflow's files."""

_NO_PART = re.compile(r"^\.+$|^[A-Za-z]:$|[\x00-\x1f]")
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, ValueError, *DAMAGED)


def archive_of(path: Path) -> Literal["zip", "tar", ""]:
    """What kind of archive a file is, told by its first bytes; "" for any other file and for
    archives that are a format of their own (PyTorch's, spreadsheets)."""
    try:
        if not path.stat().st_size:  # as `unpacked` has it, never opened
            return ""
        with path.open("rb") as stream:
            head = stream.read(4)
        if head in ZIP:
            own = path.suffix.lower() in _SHEETS or tensors.is_torch(path)
            return "" if own else "zip"
        with unpacked(path) as stream:
            return "tar" if stream.read(512)[257:262] == b"ustar" else ""
    except (OSError, ValueError, *DAMAGED):
        return ""


class Inside(NamedTuple):
    """Files of a log, how to call them (None: by their own names), and names of archives of which
    only a part could be unpacked."""

    paths: list[Path]
    names: list[str] | None
    cut: list[str]


def files_inside(paths: Sequence[Path], names: Sequence[str] | None, folder: Path) -> Inside:
    """The files of a log, archives replaced by the files of a log that they hold.

    names: how `paths` are called, None by their own names; folder: where to unpack. Raises
    LogError, one line, for an archive that is damaged from the start or locked, that holds no log,
    or more than `MOST_BYTES`.
    """
    kinds = [archive_of(path) for path in paths]
    if not any(kinds):
        return Inside(list(paths), list(names) if names else None, [])
    found: list[Path] = []
    called: list[str] = []
    cut: list[str] = []
    left = MOST_BYTES
    for place, (path, kind) in enumerate(zip(paths, kinds, strict=True)):
        name = names[place] if names else path.name
        if not kind:
            found.append(path)
            called.append(names[place] if names else str(path))
            continue
        target = folder / str(place)
        written, whole = _unpack(path, kind, plain_line(name), target, left)
        left -= written
        cut += [name] * (not whole)
        try:
            inside = files_of([target])
        except LogError:
            raise LogError(
                f"{plain_line(name)}: no log in this {kind} archive; expected files that end in "
                f"{', '.join(SUFFIXES)}"
            ) from None
        found += inside
        called += [f"{name}/{one.relative_to(target)}" for one in inside]
    return Inside(found, called, cut)


def _unpack(path: Path, kind: str, name: str, target: Path, left: int) -> tuple[int, bool]:
    """Write what may be a log below a folder; the bytes that were written, and whether the archive
    is whole."""
    target.mkdir(parents=True)
    many = written = 0
    room = min(left, MOST_TIMES * path.stat().st_size + SMALL)
    room = min(room, shutil.disk_usage(target).free // 2)
    try:
        for called, stream in _zipped(path) if kind == "zip" else _tarred(path):
            many += 1
            if many > MOST_FILES:
                raise LogError(f"{name}: more than {MOST_FILES:,} files; unpack what is the log")
            written += _copied(stream, target / called, room - written, name)
    except _BROKEN as problem:
        if not many:
            why = plain_line(problem, 60)
            raise LogError(f"{name}: a damaged {kind} archive ({why})") from None
        return written, False
    except RuntimeError:
        raise LogError(f"{name}: locked with a password, or packed in an unknown way") from None
    return written, True


def _zipped(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            place = _place(member.filename)
            # The upper half holds what Unix says of a file.
            is_link = member.external_attr >> 28 == stat.S_IFLNK >> 12
            if place is not None and not member.is_dir() and not is_link:
                with archive.open(member) as stream:
                    yield place, stream


def _tarred(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    with unpacked(path) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
        for member in archive:
            place = _place(member.name)
            stream = archive.extractfile(member) if place is not None and member.isreg() else None
            if place is not None and stream is not None:
                yield place, stream


def _place(called: str) -> Path | None:
    """Where a member goes below the folder; None for what can be no log."""
    parts = [one for one in re.split(r"[/\\]", called) if one and not _NO_PART.search(one)]
    if not parts or "__MACOSX" in parts or any(len(one.encode()) > 250 for one in parts):
        return None
    suffix = plain_suffix(parts[-1])
    known = suffix in (*SUFFIXES, *_PRINTED) or suffix[1:].isdecimal()
    return Path(*parts[-20:]) if known or "tfevents" in parts[-1] else None


def _copied(stream: IO[bytes], target: Path, room: int, name: str) -> int:
    """Bytes written. Raises LogError where they are more than there is room for."""
    written = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        while piece := stream.read(_PIECE):
            written += len(piece)
            if written > room:
                raise LogError(
                    f"{name}: more than {room / 1e9:.1f} GB when unpacked; unpack it, and name the "
                    "folder or files of the log"
                )
            out.write(piece)
    return written


__all__ = ["Inside", "archive_of", "files_inside"]
