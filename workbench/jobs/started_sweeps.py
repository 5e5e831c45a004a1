"""Sweeps that the app started: what the store knows of each, whoever watches.

`STORE/started/<name>-<hash>.json` is the note of a sweep: what was ordered, how it stands, when it
began and how long it took; `.jsonl` beside it is what its process says, and `.lock` is locked as
long as that process lives, so that a note of a dead process is never taken for a running sweep.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.errors import UserError
from workbench.spec.sweep import Sweep
from workbench.store.files import read_regular, replace, sha256
from workbench.store.records import sweep_note
from workbench.store.runs import Store

SweepState = Literal["started", "stopped", "refused", "finished"]
FOLDER = "started"
_log = logging.getLogger("recast")


def name_of(sweep: Sweep) -> str:
    """What a sweep is called in a store: its name and a hash of all that it says."""
    return f"{sweep.name}-{sha256(sweep.model_dump_json().encode())[:8]}"


@dataclass(frozen=True)
class Note:
    """Where the note of a sweep lies, and what may be done with it."""

    store: Path
    name: str

    @classmethod
    def of(cls, sweep: Sweep, store: Store) -> Note:
        """The note of a sweep, whether it is there or not."""
        return cls(store.root, name_of(sweep))

    @property
    def path(self) -> Path:
        """The note itself."""
        return self._with("json")

    @property
    def journal(self) -> Path:
        """What its process says, one JSON object per line."""
        return self._with("jsonl")

    def write(self, sweep: Sweep, state: SweepState, reason: str = "", **facts: Any) -> None:
        """Write down how it stands; what was known and is not said anew stays. Raises DiskError."""
        content = self.read() or {
            "schema_version": 1,
            "sweep": sweep.model_dump(mode="json"),
            "runs": [run.key for run in sweep.runs()],
        }
        content |= {"state": state, "reason": reason, **facts}
        replace(json.dumps(content).encode(), self.path)

    def read(self) -> dict[str, Any] | None:
        """The note; None where there is none, or none that can be read."""
        try:
            return sweep_note(self.path)
        except (OSError, ValueError):
            return None

    def lock(self) -> int:
        """Claim the sweep for a process to come: a handle to hand on to it.

        Raises UserError where a process has it already, or the disk refuses.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._with("lock"), os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as problem:
            raise UserError(f"{self._with('lock')}: cannot write ({problem.strerror})") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise UserError(f"sweep {self.name}: it is already running") from None
        return handle

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        try:
            handle = os.open(self._with("lock"), os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    def stop(self) -> None:
        """Ask its process to end after the work in flight."""
        pid = self.pid
        if pid is not None and self.alive:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)

    @property
    def pid(self) -> int | None:
        """Of its process, as its lock says; None where none was ever started."""
        try:
            return int(read_regular(self._with("lock"), 100))
        except (OSError, ValueError):
            return None

    def forget(self) -> None:
        """Nobody wants to know of it any more; its runs stay."""
        for path in (self.path, self.journal, self._with("lock")):
            with contextlib.suppress(OSError):
                path.unlink()

    def _with(self, suffix: str) -> Path:
        return self.store / FOLDER / f"{self.name}.{suffix}"


def notes(store: Store) -> list[Note]:
    """The notes of a store that can be read, by name; the others are named on the log."""
    found = []
    for path in sorted((store.root / FOLDER).glob("*.json")):
        try:
            sweep_note(path)
        except (OSError, ValueError) as problem:
            said = problem.strerror if isinstance(problem, OSError) else problem
            _log.warning("%s: %s; left out, `recast store check` names it", path, said)
        else:
            found.append(Note(store.root, path.stem))
    return found


def now() -> float:
    """Seconds since 1970, as notes have them."""
    return round(time.time(), 1)
