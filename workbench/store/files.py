"""Writing a file so that it exists entirely or not at all, under the checksum of its bytes.

Everything the workbench keeps is written here, so that a full or failing disk is one kind of error.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import DiskError

LARGEST = 64_000_000
"""Bytes of a run, a warm start or a sweep's record."""
DEEPEST = 100
"""How many folders inside each other are looked into."""
_DRAFT = ".tmp-"
_OURS = re.compile(r"\.tmp-[0-9a-f]{16}")


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def read_regular(path: Path, most: int = LARGEST) -> bytes:
    """The bytes of a regular file. A pipe or device is never waited for.

    Raises ValueError, one phrase, for what is no regular file or larger than `most` bytes, and
    OSError.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("no regular file")
        if found.st_size > most:
            raise ValueError(f"larger than {most:,} bytes")
        with os.fdopen(handle, "rb", closefd=False) as stream:
            return stream.read(most + 1)
    finally:
        os.close(handle)


def walked(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk` as far as `DEEPEST` folders down: each folder with the names of its folders, which
    may be taken out or put in order, and of its files. Python 3.11 fails where there are a
    thousand, one in the other."""
    for here, folders, names in os.walk(folder):
        if here.count(os.sep) - str(folder).count(os.sep) >= DEEPEST:
            folders.clear()
        yield Path(here), folders, names


def publish(content: bytes, folder: Path, suffix: str, scratch: Path) -> Path:
    """Write `folder/<sha256><suffix>` by renaming a finished folder into place.

    scratch: an existing folder on the same file system for the draft. A `folder` that is already
    there is kept: the first writer wins; a file in its place is set aside. Raises DiskError;
    nothing half-written stays visible.
    """
    try:
        folder.parent.mkdir(exist_ok=True)
        if os.path.lexists(folder) and not folder.is_dir():
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                set_aside(folder, scratch / "quarantine")
        with draft_in(scratch) as draft:
            _write(draft / f"{sha256(content)}{suffix}", content)
            sync_folder(draft)
            try:
                draft.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
        sync_folder(folder.parent)
        return next(folder.iterdir())
    except OSError as problem:
        raise DiskError(f"{folder}: cannot write ({problem.strerror or problem})") from None


def set_aside(folder: Path, below: Path) -> Path:
    """Move a file or folder to a new place `below/<name>-<random>`.

    Raises FileNotFoundError when somebody else was faster, DiskError when the disk refuses.
    """
    place = below / f"{folder.name}-{secrets.token_hex(4)}"
    try:
        below.mkdir(exist_ok=True)
        folder.rename(place)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise DiskError(f"{folder}: cannot move to {below} ({problem.strerror})") from None
    return place


def replace(content: bytes, target: Path) -> None:
    """Write a whole file over `target` or not at all. Raises DiskError."""
    draft = target.with_name(f"{_DRAFT}{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)) as handle:
            _fill(handle, content)
            draft.rename(target)
        sync_folder(target.parent)
    except OSError as problem:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise DiskError(f"{target}: cannot write ({problem.strerror or problem})") from None


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def draft_in(scratch: Path) -> Iterator[Path]:
    """A new folder that is ours as long as the block lasts, with the mode that the umask asks for.

    What is left of it at the end is removed; of a process that was killed, by whoever comes next.
    """
    while True:
        draft = scratch / f"{_DRAFT}{secrets.token_hex(8)}"
        draft.mkdir()
        handle = os.open(draft, os.O_RDONLY)
        with _locked(handle):
            if not draft.is_dir():
                continue  # taken for litter before it was locked
            try:
                yield draft
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            return


def remove_abandoned(*scratch: Path) -> None:
    """Remove drafts whose writers are gone: those that nobody holds a lock on. Clocks play no
    part, and where a file system has no locks nothing is removed, nor what is not named as ours."""
    for draft in (path for folder in scratch for path in folder.glob(f"{_DRAFT}*")):
        if not _OURS.fullmatch(draft.name):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
            finally:
                os.close(handle)


@contextlib.contextmanager
def _locked(handle: int) -> Iterator[int]:
    """An open file under an exclusive lock, as far as its file system has locks; closed after."""
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _fill(handle, content)
    finally:
        os.close(handle)


def _fill(handle: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]
    os.fsync(handle)


class WorkLock:
    """An exclusive lock on a name of work, which the system drops when its owner dies.

    The package `filelock` (4.3.1) locks the same way and does not serve here: it refuses a lock
    file that another user of the store left, fails where the file system has no locks, and keeps
    the files of work that is done. Here the file also names its owner, so that whoever waits can
    say for whom and whether that process is stopped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def take(self) -> bool:
        """True when it is ours now; False when another process holds it.

        A file system without locks grants every one: work may be done twice there, never lost.
        Raises DiskError when the lock file cannot be created.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = self._opened()
        except OSError as problem:
            raise DiskError(f"{self._path}: cannot write ({problem.strerror})") from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            self._handle = None
            return False
        except OSError:
            return True
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f"process {os.getpid()} on {platform.node()}\n".encode())
        return True

    def _opened(self) -> int:
        """The lock file, made where it is not; another user's may be ours to read alone."""
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            if not self._path.exists():
                raise
            return os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)

    def owner(self) -> str:
        """Who wrote that it holds it; empty when nobody did."""
        with contextlib.suppress(OSError, ValueError):
            return read_regular(self._path, 10_000)[:200].decode().strip()
        return ""

    def owner_is_stopped(self) -> bool:
        """Whether the process that holds it is on this machine and was stopped (SIGSTOP, Ctrl-Z),
        as far as /proc says."""
        found = re.fullmatch(r"process (\d+) on (.+)", self.owner())
        if found is None or found[2] != platform.node():
            return False
        try:
            said = Path(f"/proc/{found[1]}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return said.rpartition(")")[2].split()[:1] == ["T"]

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._handle is not None

    def drop(self, done: bool) -> None:
        """Let go. `done`: the named work is published, so the lock file can go too."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            if done:
                with contextlib.suppress(OSError):
                    self._path.unlink()
            os.close(handle)
