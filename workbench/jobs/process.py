"""A worker process that talks JSON lines, seen from the process that started it.

Nothing here blocks: a thread collects what the child says. A child reads its standard input and is
written to end itself when that closes, so that it never outlives its parent, however that ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """What a worker process inherits: this package, and one thread for numbers."""
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}


class Child:
    """`python -m MODULE` with one thread for numbers, and a pipe in each direction."""

    def __init__(self, module: str) -> None:
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self._process.stdout is not None
        self._collector = threading.Thread(
            target=_collect, args=(self._process.stdout, self._events), daemon=True
        )
        self._collector.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def say(self, line: str) -> None:
        """Write one line to the child; lost when it is gone, which `heard` reports."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            return

    def heard(self) -> list[dict[str, Any] | None]:
        """What the child said since the last call; None at the end: it is gone."""
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        return found

    def code(self) -> int:
        """Wait for the end of a child that is gone; its exit code, negative for a signal."""
        return self._process.wait()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._collector.join()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # what was not read any more
            self._process.stdin.close()


def _collect(stream: IO[str], events: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with stream:
        for line in stream:
            if line.endswith("\n"):  # the last one may be cut short when the child is killed
                events.put(json.loads(line))
    events.put(None)


def listen(obey: Callable[[str], None]) -> None:
    """The child's side: pass every word from stdin on, in a thread, and end the process at once
    when stdin closes."""

    def hear() -> None:
        for word in sys.stdin:
            obey(word.strip())
        os._exit(1)

    threading.Thread(target=hear, daemon=True).start()


class Voice:
    """The child's side: events on a stream, one JSON object per line, from any thread."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def say(self, kind: str, **content: Any) -> None:
        """One event."""
        with self._lock:
            self._stream.write(json.dumps({"kind": kind, **content}) + "\n")
            self._stream.flush()
