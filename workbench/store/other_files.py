"""What a store holds beside its finished runs, each kind with its own check.

Warm starts, records, parts, claims and the bin are made again or do without; a note or a label is a
person's, so that its damage is named before anything is written over it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workbench.store.bin import is_batch
from workbench.store.contents import Damage
from workbench.store.files import read_regular, sha256
from workbench.store.parsed_rows import part_content
from workbench.store.records import LaterVersionError, label_record, sweep_note, sweep_record
from workbench.store.soundness import KEY, RUN_FILE, listed, only_file, start_content

_SWEEP = r".+-[0-9a-f]{8}"
_MOST_JOURNAL = 10**9


@dataclass(frozen=True)
class OtherFiles:
    """damaged: what cannot be used; left: sound for all we know, but not for this user or this
    release to read."""

    damaged: tuple[Damage, ...]
    left: tuple[Damage, ...]


def other_files(root: Path) -> OtherFiles:
    """Check every file of a store that is no run of it."""
    damaged, left = [], []
    for path, check in _kinds(root):
        try:
            check(path)
        except FileNotFoundError:
            if os.path.lexists(path):
                damaged.append(Damage(path, "a link to nothing"))
        except LaterVersionError as problem:
            left.append(Damage(path, str(problem)))
        except PermissionError:
            left.append(Damage(path, "this user may not read it"))
        except (OSError, ValueError) as problem:
            said = problem.strerror if isinstance(problem, OSError) else str(problem)
            damaged.append(Damage(path, str(said)))
    return OtherFiles(tuple(damaged), tuple(left))


def _kinds(root: Path) -> Iterator[tuple[Path, Callable[[Path], object]]]:
    """Every path, and what raises ValueError or OSError when it is not what its place says."""
    places: dict[str, tuple[str, Callable[[Path], object]]] = {
        "starts": (r".*", start_content),
        "sweeps": (r".*\.json", sweep_record),
        "parts": (r".*\.parquet", part_content),
        "started": (rf"{_SWEEP}\.json", sweep_note),
        "labels": (rf"{_SWEEP}\.json", label_record),
        "claims": (KEY.pattern, read_regular),
    }
    for folder, (names, check) in places.items():
        yield from _inside(root / folder, names, check)
    journal = partial(read_regular, most=_MOST_JOURNAL)
    yield from _inside(root / "started", rf"{_SWEEP}\.(jsonl|lock)", journal)
    for path, _ in _inside(root / "bin", r".*", listed):
        if is_batch(path):
            yield from _inside(path, KEY.pattern, _binned_run)


def _inside(
    folder: Path, names: str, check: Callable[[Path], object]
) -> Iterator[tuple[Path, Callable[[Path], object]]]:
    if not os.path.lexists(folder):
        return
    try:
        found = sorted(listed(folder))
    except (OSError, ValueError):
        yield folder, listed
        return
    for name in found:
        if re.fullmatch(names, name):
            yield folder / name, check


def _binned_run(folder: Path) -> None:
    path, content = only_file(folder)
    name = RUN_FILE.fullmatch(path.name)
    if name is None or sha256(content) != name["sha"]:
        raise ValueError(f"checksum differs ({len(content)} bytes)")
