"""Writing a file so that it exists entirely or not at all, under the checksum of its bytes.

Everything the workbench keeps is written here, so that a full or failing disk is one kind of error.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

_OLD = 24 * 3600


class StoreError(Exception):
    """A store that cannot be used as asked; the message is one line for the user."""


class DiskError(StoreError):
    """The disk refused a write: full, over quota, read-only or failing."""


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def publish(content: bytes, folder: Path, suffix: str, scratch: Path) -> Path:
    """Write `folder/<sha256><suffix>` by renaming a finished folder into place.

    scratch: an existing folder on the same file system for the draft. A `folder` that is already
    there is kept: the first writer wins. Raises DiskError; nothing half-written stays visible.
    """
    draft = Path()
    try:
        folder.parent.mkdir(exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=scratch, prefix=".tmp-"))
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
    finally:
        if draft != Path():
            shutil.rmtree(draft, ignore_errors=True)


def set_aside(folder: Path, below: Path) -> Path:
    """Move a folder to a new place `below/<name>-<random>`. Raises DiskError."""
    try:
        below.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=below))
        folder.rename(place)
        return place
    except OSError as problem:
        raise DiskError(f"{folder}: cannot move to {below} ({problem.strerror})") from None


def replace(content: bytes, target: Path) -> None:
    """Write a whole file over `target` or not at all. Raises DiskError."""
    draft = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(draft, content)
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


def remove_old_drafts(scratch: Path) -> None:
    """Remove what writers that were killed left behind more than a day ago."""
    for draft in scratch.glob(".tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _OLD:
                shutil.rmtree(draft)


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


class Claim:
    """An exclusive claim on a name, by a lock that the system drops when its owner dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def take(self) -> bool:
        """True when the claim is ours now; False when another process holds it.

        A file system without locks grants every claim: work may be done twice there, never lost.
        Raises DiskError when the lock file cannot be created.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
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
        return True

    @property
    def held(self) -> bool:
        """Whether the claim is ours."""
        return self._handle is not None

    def drop(self, done: bool) -> None:
        """Let go. `done`: the named work is published, so the lock file can go too."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            if done:
                with contextlib.suppress(OSError):
                    self._path.unlink()
            os.close(handle)
