"""What a user can put right, and what the disk refused: one line each, never a traceback."""

from __future__ import annotations

from collections.abc import Sequence

from recast.quoting import one_line


class UserError(Exception):
    """Something that the user can put right; the message is one line for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class StoreError(UserError):
    """A store that cannot be used as asked."""


class DiskError(StoreError):
    """The disk refused a write: full, over quota, read-only or failing."""


class LogError(UserError):
    """A log of which nothing can be read. columns: those of a format that nobody knows."""

    def __init__(self, message: str, columns: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.columns = tuple(columns)


class Refused(LogError):
    """A log that is not to be read: no regular file, or beyond the ceilings of memory and time."""
