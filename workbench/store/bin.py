"""The bin of a store: `STORE/bin/<time>-<random>/<key>`, where deleted runs stay until it is
emptied."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from recast.quoting import nearest
from workbench.errors import DiskError, StoreError
from workbench.store.soundness import KEY

_BATCH = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
"""What was thrown away together; whatever else a folder named bin holds is not ours."""


def throw_away(root: Path, keys: Iterable[str]) -> str:
    """Move runs to the bin; returns the name of what was thrown away together, for `restore`, or
    an empty text when there was nothing. Raises DiskError."""
    batch = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
    place = root / "bin" / batch
    try:
        place.mkdir(parents=True)
        for key in sorted(keys):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                (root / "runs" / key).rename(place / key)
        if any(place.iterdir()):
            return batch
        place.rmdir()
    except OSError as problem:
        _put_back(root, batch)
        raise DiskError(f"{place}: cannot move runs there ({problem.strerror})") from None
    return ""


def _put_back(root: Path, batch: str) -> None:
    """Undo what was moved of a batch before the disk refused the rest."""
    with contextlib.suppress(StoreError):
        restore(root, batch)


def binned(root: Path) -> dict[str, list[str]]:
    """What lies in the bin: the runs' keys of each batch that may be read, the oldest first."""
    found: dict[str, list[str]] = {}
    with contextlib.suppress(OSError):
        for path in sorted(path for path in (root / "bin").iterdir() if is_batch(path)):
            with contextlib.suppress(OSError):
                found[path.name] = sorted(p.name for p in path.iterdir() if KEY.fullmatch(p.name))
    return found


def is_batch(path: Path) -> bool:
    """Whether this is what was thrown away together."""
    return bool(_BATCH.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()


def restore(root: Path, batch: str) -> int:
    """Put a batch of the bin back; returns how many runs came back. A run that has been done again
    since stays as it is. Raises StoreError for an unknown batch, DiskError."""
    held = binned(root)
    if batch not in held:
        raise StoreError(f"bin: nothing named {batch!r}; {nearest(batch, held)}")
    place, back = root / "bin" / batch, 0
    try:
        for key in held[batch]:
            if not (root / "runs" / key).exists():
                (place / key).rename(root / "runs" / key)
                back += 1
        if not any(place.iterdir()):
            place.rmdir()
    except OSError as problem:
        raise DiskError(f"{place}: cannot be put back ({problem.strerror})") from None
    return back


def empty(root: Path) -> int:
    """Remove what lies in the bin for good; returns how many runs that were. Raises StoreError,
    which says how many stay."""
    held = binned(root)
    for batch in held:
        shutil.rmtree(root / "bin" / batch, ignore_errors=True)
    before, after = (sum(map(len, found.values())) for found in (held, binned(root)))
    if after:
        raise StoreError(
            f"{root / 'bin'}: {after} of {before} runs cannot be removed; ask their owner"
        )
    return before
