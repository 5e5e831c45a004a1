"""The store: one immutable Parquet file per finished run, written atomically and checksummed.

Layout: `STORE/runs/<key>/<sha256>.v2.parquet`. The key is a hash of the run's configuration, the
file name is the SHA-256 of its bytes and the version of its schema. A run is published by renaming
a whole folder, so it exists entirely or not at all, and a second writer of the same run loses the
race without harm. Configuration and provenance travel in the file's own metadata.

Every reader verifies every checksum. A damaged file is named and left out, the rest is read.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

import polars as pl

from recast.ledger import RunRecord
from workbench.errors import DiskError, StoreError
from workbench.spec.later_fields import completed
from workbench.store.bin import throw_away
from workbench.store.contents import Contents, Damage, complaints
from workbench.store.encoding import config_of, encoded, migrated, versions
from workbench.store.files import draft_in, publish, remove_abandoned, set_aside, sha256
from workbench.store.other_files import OtherFiles, other_files
from workbench.store.parsed_rows import rows_of
from workbench.store.soundness import KEY, RUN_FILE, fault_of_run, listed, only_file

SCHEMA_VERSION = 2
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})
_log = logging.getLogger("recast")


@dataclass(frozen=True)
class Store:
    """A folder of finished runs."""

    root: Path

    @property
    def _runs(self) -> Path:
        return self.root / "runs"

    def prepare(self) -> Store:
        """Create the folders.

        Raises StoreError when the path is not a writable folder, DiskError when the disk is full.
        """
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            with draft_in(self.root):
                pass
            remove_abandoned(self.root, self.root / "parts", self.root / "sweeps")
        except OSError as problem:
            kind = DiskError if problem.errno in _FULL else StoreError
            raise kind(
                f"store {self.root}: not a writable folder ({problem.strerror}); "
                "choose another with --store"
            ) from None
        except ValueError as problem:
            raise StoreError(f"store {str(self.root)!r}: not a path ({problem})") from None
        return self

    def has(self, key: str) -> bool:
        """Whether this run is finished and stored."""
        return (self._runs / key).is_dir()

    def write(self, key: str, record: RunRecord, provenance: Mapping[str, Any] = {}) -> Path:
        """Publish one finished run; returns its file. A run that is already there is kept.

        Raises DiskError when the disk refuses; nothing half-written stays visible.
        """
        content = encoded(key, record, {**versions(), **provenance})
        return publish(content, self._runs / key, f".v{SCHEMA_VERSION}.parquet", self.root)

    def files(self) -> list[Path]:
        """Every stored run's file, in key order."""
        return sorted(self._runs.glob("*/*.parquet"))

    def contents(self, keys: Iterable[str] | None = None) -> Contents:
        """Read and verify every file, or those of some runs. Raises StoreError when the folder
        itself cannot be read."""
        good: dict[str, tuple[Path, bytes]] = {}
        damaged: list[Damage] = []
        unreadable: list[Damage] = []
        old: list[Path] = []
        foreign: list[Path] = []
        for folder in self._folders(keys):
            try:
                path, content = only_file(Path(folder))
            except FileNotFoundError:
                if Path(folder).is_symlink():
                    damaged.append(Damage(Path(folder), "a link to nothing"))
                continue  # another process took it away
            except OSError as problem:
                fault = Damage(Path(folder), f"cannot be read ({problem.strerror})")
                (damaged if problem.errno == errno.ELOOP else unreadable).append(fault)
                continue
            except ValueError as problem:
                where = Path(folder)
                if not where.is_dir() and KEY.fullmatch(where.name) is None:
                    continue  # a file among the runs that is none of ours
                damaged.append(Damage(Path(folder), str(problem)))
                continue
            name = RUN_FILE.fullmatch(path.name)
            assert name is not None
            schema = int(name["version"] or 1)
            if sha256(content) != name["sha"]:
                damaged.append(Damage(path, f"checksum differs ({len(content)} bytes)"))
            elif schema < SCHEMA_VERSION:
                old.append(path)
            elif schema > SCHEMA_VERSION:
                foreign.append(path)
            else:
                good[path.parent.name] = (path, content)
        return Contents(good, tuple(damaged), tuple(old), tuple(foreign), tuple(unreadable))

    def provenances(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """What each of these runs says of the software and machine that made it; runs that cannot
        be read say nothing."""
        found = []
        for folder in self._folders(sorted(set(keys))):
            with contextlib.suppress(OSError, ValueError, KeyError, pl.exceptions.PolarsError):
                said = config_of(next(Path(folder).glob("*.parquet")))[1]
                found.append(said if isinstance(said, dict) else {})
        return found

    def checked(self) -> Contents:
        """`contents`, with what a right checksum hides named as damage too."""
        held = self.contents()
        faults = {key: fault_of_run(key, content) for key, (_, content) in held.good.items()}
        good = {key: where for key, where in held.good.items() if not faults[key]}
        forged = [Damage(held.good[key][0], fault) for key, fault in faults.items() if fault]
        return replace_fields(held, good=good, damaged=(*held.damaged, *forged))

    def beside(self) -> OtherFiles:
        """What is damaged, or left out, beside the runs: warm starts, records, notes, labels,
        parts, claims, the bin."""
        return other_files(self.root)

    def damaged(self) -> list[Path]:
        """Files (or folders) that cannot be used."""
        return [fault.path for fault in self.contents().damaged]

    def quarantine(self, faults: Iterable[Damage]) -> dict[Path, Path]:
        """Move damaged files out of the readers' way, to `STORE/quarantine`; the next sweep redoes
        the runs. Returns where each path went, without those that another process moved and
        folders without a run's name that hold other files, which may be somebody else's. Raises
        DiskError."""
        moved = {}
        for fault in faults:
            run = self._runs / fault.key
            where = run if run.exists() and run in (fault.path, fault.path.parent) else fault.path
            if where == run and KEY.fullmatch(run.name) is None and not _holds_runs(run):
                continue
            with contextlib.suppress(FileNotFoundError):
                moved[fault.path] = set_aside(where, self.root / "quarantine")
        return moved

    def delete(self, keys: Iterable[str]) -> str:
        """Move finished runs to the bin; see `workbench.store.bin.throw_away`."""
        return throw_away(self.root, set(keys) & {Path(f).name for f in self._folders(None)})

    def scan(self, keys: Iterable[str] | None = None) -> pl.LazyFrame:
        """All runs, or some, lazily: one row per (run, evaluation, split, slice).

        Names what is left out on the log `recast`, which prints to stderr unless configured
        otherwise. No columns for an empty store.
        """
        held = self.contents(keys)
        for text in complaints(self.root, held):
            _log.warning(text)
        return self.parsed(held)

    def load(self, keys: Iterable[str] | None = None) -> pl.DataFrame:
        """`scan`, collected; an empty frame for an empty store."""
        return self.scan(keys).collect()

    def migrate(self) -> int:
        """Rewrite runs of older schemas under the current one; returns how many. Their keys stay,
        so that a sweep never takes them for runs of today's simulator. Raises DiskError."""
        old = self.contents().old
        done = 0
        for path in old:
            try:
                content = migrated(path.parent.name, pl.read_parquet(path))
            except (KeyError, ValueError, TypeError, RecursionError, pl.exceptions.PolarsError):
                _log.warning("%s: not a run of an older schema; left as it is", path)
                continue
            set_aside(path.parent, self.root / "retired")
            publish(content, path.parent, f".v{SCHEMA_VERSION}.parquet", self.root)
            done += 1
        return done

    def _folders(self, keys: Iterable[str] | None) -> list[str]:
        runs = str(self._runs)
        if keys is not None:
            return [f"{runs}/{key}" for key in keys if os.path.lexists(f"{runs}/{key}")]
        if not self._runs.is_dir():
            return []
        try:
            return sorted(f"{runs}/{name}" for name in listed(runs) if name[0] != ".")
        except OSError as problem:
            raise StoreError(f"store {self.root}: cannot be read ({problem.strerror})") from None

    def parsed(self, held: Contents) -> pl.LazyFrame:
        """The rows of what `contents` found, lazily; no columns when it found nothing."""
        if not held.good:
            return pl.LazyFrame()
        return completed(rows_of(self.root, held))


def _holds_runs(folder: Path) -> bool:
    """Whether a folder may be set aside: an empty one, a file, or one of tables alone."""
    try:
        return all(name.endswith(".parquet") for name in listed(folder))
    except (ValueError, FileNotFoundError):
        return True
    except OSError:
        return False
