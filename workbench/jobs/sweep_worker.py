"""The process behind a sweep that the app started: it goes on when the tab, or the server, ends.

`python -m workbench.jobs.sweep_worker STORE NAME LOCK` does what the note of that name says; LOCK
is a handle of its lock, held as long as the process lives. It says how it stands in the journal
beside the note, and ends after the work in flight on SIGTERM. However it ends, stored
runs are complete, and the same command continues from them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from recast.progress import Progress
from workbench.errors import UserError
from workbench.execution.runner import run_sweep
from workbench.jobs.process import Voice
from workbench.jobs.started_sweeps import Note, now
from workbench.spec.sweep import Sweep
from workbench.store.runs import Store

PAUSE = 0.5
"""Seconds between two lines of progress at the least."""


def main() -> None:
    """Serve one sweep."""
    store, name, lock = sys.argv[1:]
    os.set_inheritable(int(lock), False)
    note = Note(Path(store), name)
    content = note.read()
    assert content is not None
    sweep = Sweep.model_validate(content["sweep"])
    with note.journal.open("w", encoding="utf-8") as stream:
        serve(sweep, note, Voice(stream))


def serve(sweep: Sweep, note: Note, voice: Voice) -> None:
    """Do what is missing, and write down how it ended."""
    began = time.monotonic()

    def took() -> float:
        return round(time.monotonic() - began, 1)

    note.write(sweep, "started", began=now())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        outcome = run_sweep(sweep, Store(note.store).prepare(), seldom(voice))
        failures = list(dict.fromkeys(outcome.failures.values()))
        note.write(sweep, "finished", failures[0] if failures else "", seconds=took())
        voice.say(
            "end",
            trained=outcome.trained,
            reused=outcome.reused,
            failures=failures,
        )
    except UserError as problem:
        with contextlib.suppress(UserError):  # the disk may be what refuses
            note.write(sweep, "refused", str(problem), seconds=took())
        voice.say("refused", text=str(problem))
    except KeyboardInterrupt:
        note.write(sweep, "stopped", seconds=took())
        voice.say("stopped")


def seldom(voice: Voice) -> Progress:
    """Progress for the journal, which stays small: a line now and then, and the last of a round."""
    last = -PAUSE

    def progress(done: int, total: int, text: str) -> None:
        nonlocal last
        moment = time.monotonic()
        if moment - last >= PAUSE or done >= total:
            last = moment
            voice.say("progress", done=done, total=total, text=text)

    return progress


if __name__ == "__main__":
    main()
