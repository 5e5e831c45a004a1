"""The process behind "simulate my regime": `python -m workbench.jobs.lookalike_worker`.

Reads one order from stdin, then the word `stop`; writes JSON lines to stdout. It ends itself as
soon as stdin closes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from workbench.diagnosis.lookalike import Wanted, rank
from workbench.errors import UserError
from workbench.jobs.process import Voice, listen


def _obey(word: str) -> None:
    """Obey `stop` as a terminal's Ctrl-C is obeyed: stored runs are whole, and the same order goes
    on from them."""
    if word == "stop":
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve one order."""
    voice = Voice(sys.stdout)
    line = sys.stdin.readline()
    if not line:
        return
    order = json.loads(line)
    listen(_obey)
    try:
        found = rank(
            Wanted(**order["wanted"]),
            Path(order["store"]),
            lambda done, total, text: voice.say("progress", done=done, total=total, text=text),
            executor="serial",
        )
        voice.say(
            "end",
            regimes=found.regimes.to_dicts(),
            table=found.table.to_dicts(),
            notes=list(found.notes),
        )
    except UserError as problem:
        voice.say("refused", text=str(problem))
    except KeyboardInterrupt:
        voice.say("stopped")


if __name__ == "__main__":
    main()
