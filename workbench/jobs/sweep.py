"""Sweeps as the app sees them: checked from edited text, planned, watched, and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recast.quoting import nearest
from workbench.errors import UserError
from workbench.jobs.job import Standing
from workbench.jobs.process import environment
from workbench.jobs.started_sweeps import Note, now
from workbench.plurals import number_of
from workbench.spec.experiment import PRESETS, preset_names
from workbench.spec.plain_data import parsed_toml
from workbench.spec.sweep import SWEEPS, Sweep, sweep_names, sweep_of
from workbench.store.runs import Store

LONGEST = 20_000
WORKER = "workbench.jobs.sweep_worker"


def packaged() -> dict[str, str]:
    """The text of every packaged sweep and preset, by name."""
    found = {name: SWEEPS / f"{name}.toml" for name in sweep_names()}
    found |= {name: PRESETS / f"{name}.toml" for name in preset_names()}
    return {name: path.read_text(encoding="utf-8") for name, path in found.items()}


def check_sweep(text: str) -> Sweep:
    """A sweep from edited TOML.

    Raises UserError, one line: what is wrong, where, and what would be right; also for a base that
    is not packaged and for a data folder other than the one that RECAST_DATA names.
    """
    if len(text) > LONGEST:
        raise UserError(f"sweep: {len(text)} characters; expected at most {LONGEST}")
    try:
        raw = parsed_toml(text)
    except ValueError as problem:
        raise UserError(f"sweep: not readable TOML: {problem}") from None
    base = raw.get("base")
    if base is not None and base not in preset_names():
        raise UserError(
            f"base: {base!r}: not a packaged preset; {nearest(str(base), preset_names())}"
        )
    plan = sweep_of(raw)
    folders = {plan.world.data, *plan.grid.get("world.data", ())}
    folders |= {folder for rule in plan.include for folder in rule.get("world.data", ())}
    allowed = os.environ.get("RECAST_DATA")
    if folders - {None, allowed}:
        raise UserError(
            "world.data: the app reads no folder but the one that RECAST_DATA names; use "
            "`recast sweep` for others"
        )
    return plan


def missing(plan: Sweep, store: Store) -> tuple[int, int]:
    """Runs of a sweep, and how many of them the store lacks."""
    keys = [run.key for run in plan.runs()]
    return len(keys), sum(not store.has(key) for key in keys)


@dataclass
class Sweeping(Standing):
    """A sweep at work. share: of the steps of this round, 0 to 1; rounds: how often further rates
    were added; began: when the round began, in seconds of `time.monotonic`."""

    share: float = 0.0
    rounds: int = 1
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float | None:
        """Seconds that this round takes from here at its pace so far; None before it has one."""
        if self.share < 0.02:
            return None
        return (time.monotonic() - self.began) * (1 - self.share) / self.share

    def take_in(self, event: Mapping[str, Any]) -> None:
        """Note one event of the worker."""
        match event["kind"]:
            case "progress":
                share = event["done"] / max(event["total"], 1)
                if share < self.share:
                    self.rounds, self.began = self.rounds + 1, time.monotonic()
                self.share = share
                self.says(event["text"])
            case "end":
                text = (
                    f"{number_of(event['trained'], 'run')} trained, "
                    f"{number_of(event['reused'], 'was', 'were')} there before."
                )
                if event["failures"]:
                    text += f" Failed: {'; '.join(map(str, event['failures'][:3]))}"
                self.end("finished", text)
            case _:
                super().take_in(event)


class Watch:
    """A sweep that a process of its own trains, seen through its note and its journal: from any
    tab, and from a server that has been started anew. told: how it stands."""

    def __init__(self, note: Note) -> None:
        self.note, self.told = note, Sweeping()
        self._read = 0

    @classmethod
    def start(cls, plan: Sweep, store: Store) -> Watch:
        """Start a sweep that goes on by itself. Raises UserError where it is already running, and
        where the disk refuses."""
        note = Note.of(plan, store.prepare())
        lock = note.lock()
        try:
            note.write(plan, "started", began=now(), seconds=None)
            note.journal.write_text("", encoding="utf-8")
            # A stop that comes before the process can take it in waits until it can.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", WORKER, str(store.root), note.name, str(lock)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=environment(),
                    pass_fds=(lock,),
                    start_new_session=True,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.pwrite(lock, f"{process.pid:<10}".encode(), 0)
        finally:
            os.close(lock)  # the process has it
        threading.Thread(target=process.wait, daemon=True).start()  # no zombie is left
        return cls(note)

    def look(self) -> Watch:
        """Take in what the process has written since the last look."""
        alive = self.note.alive  # asked first: what it says at its end is read below
        for event in self._news():
            self.told.take_in(event)
        if not alive and not self.told.over:
            self.told.end("lost", "The process ended unexpectedly; finished runs are kept.")
        return self

    def stop(self) -> None:
        """Call it off after the work in flight; what is finished stays."""
        self.told.call_off()
        self.note.stop()

    def _news(self) -> list[dict[str, Any]]:
        try:
            handle = os.open(self.note.journal, os.O_RDONLY | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as stream:
                stream.seek(self._read)
                text = stream.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return [event for line in whole.splitlines() if (event := _event(line))]


_EVENTS: Mapping[str, Mapping[str, type]] = {
    "phase": {"text": str},
    "progress": {"done": int, "total": int, "text": str},
    "end": {"trained": int, "reused": int, "failures": list},
    "refused": {"text": str},
    "stopped": {},
}
"""What the process of a sweep says, and the kinds of its parts."""


def _event(line: bytes) -> dict[str, Any]:
    """One line of a journal; empty for what no process of ours says."""
    try:
        said = json.loads(line)
        parts = _EVENTS[said["kind"]]
        fits = all(isinstance(said[name], kind) for name, kind in parts.items())
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return said if fits else {}
