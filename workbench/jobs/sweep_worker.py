"""The process behind a sweep that the app started: `python -m workbench.jobs.sweep_worker`.

Reads one order from stdin, then the word `stop`; writes JSON lines to stdout. It ends itself as
soon as stdin closes. Whatever ends it, stored runs are complete and the same order goes on.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from workbench.errors import UserError
from workbench.execution.runner import run_sweep
from workbench.jobs.process import Voice, end_after_the_work_in_flight, listen
from workbench.jobs.started import forget, note
from workbench.spec.sweep import Sweep
from workbench.store.runs import Store


def main() -> None:
    """Serve one sweep."""
    voice = Voice(sys.stdout)
    line = sys.stdin.readline()
    if not line:
        return
    order = json.loads(line)
    sweep = Sweep.model_validate(order["sweep"])
    listen(end_after_the_work_in_flight)
    store = Store(Path(order["store"]))
    try:
        note(sweep, store.prepare(), "started")
        outcome = run_sweep(
            sweep,
            store,
            lambda done, total, text: voice.say("progress", done=done, total=total, text=text),
        )
        voice.say(
            "end",
            trained=outcome.trained,
            reused=outcome.reused,
            failures=list(dict.fromkeys(outcome.failures.values())),
        )
        forget(sweep, store)
    except UserError as problem:
        with contextlib.suppress(UserError):  # the disk may be what refuses
            note(sweep, store, "refused", str(problem))
        voice.say("refused", text=str(problem))
    except KeyboardInterrupt:
        note(sweep, store, "stopped")
        voice.say("stopped")


if __name__ == "__main__":
    main()
