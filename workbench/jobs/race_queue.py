"""Who may race: so many at once on one server, the others wait their turn.

A racing process holds some 300 MB and a core. A server keeps one idle process for all its visitors,
which has imported everything by the time that somebody presses start.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from workbench.jobs.race import Worker

PLACES = max(1, min(8, os.cpu_count() or 1))
"""Races at once."""
PATIENCE = 30.0
"""Seconds after which somebody who waits and does not ask any more is passed over."""


class Track:
    """The places of one server; safe to call from any thread.

    make: starts a process; clock: seconds, for what `PATIENCE` means.
    """

    def __init__(
        self,
        places: int = PLACES,
        make: Callable[[], Worker] = Worker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places, self._make, self._clock = places, make, clock
        self._lock = threading.Lock()
        self._visitors: set[object] = set()
        self._racing: dict[object, Worker] = {}
        self._asked: dict[object, float] = {}
        self._spare: Worker | None = None

    def visit(self, who: object) -> None:
        """A visitor is here: have a process ready."""
        with self._lock:
            self._visitors.add(who)
            if self._spare is None and not self._racing:
                self._spare = self._make()

    def ask(self, who: object) -> Worker | int:
        """A process for a visitor whose turn it is, else how many races come before theirs.

        Ask again until there is one: the turn is kept as long as one asks.
        """
        with self._lock:
            now = self._clock()
            self._visitors.add(who)
            for one, worker in list(self._racing.items()):
                if one is who or not worker.alive:
                    self._racing.pop(one)
                    worker.close()
            self._asked = {
                one: when if one is not who else now
                for one, when in self._asked.items()
                if now - when < PATIENCE or one is who
            }
            self._asked.setdefault(who, now)
            place = list(self._asked).index(who)
            if place >= self._places - len(self._racing):
                return place + 1 + len(self._racing) - self._places
            del self._asked[who]
            worker, self._spare = self._spare or self._make(), None
            self._racing[who] = worker
            return worker

    def done(self, who: object) -> None:
        """A race is over or called off: end its process, and have one ready for the next."""
        with self._lock:
            self._drop(who)
            if self._spare is None and not self._racing and who in self._visitors:
                self._spare = self._make()

    def leave(self, who: object) -> None:
        """A visitor is gone. With the last one goes the process that waits."""
        with self._lock:
            self._drop(who)
            self._visitors.discard(who)
            if not self._visitors and self._spare is not None:
                self._spare.close()
                self._spare = None

    def _drop(self, who: object) -> None:
        self._asked.pop(who, None)
        worker = self._racing.pop(who, None)
        if worker is not None:
            worker.close()
