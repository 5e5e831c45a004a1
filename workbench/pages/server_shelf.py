"""What outlives a page switch and a reload: kept by the server, found again by a word in the
address.

A browser that loads a page anew gets a new session, whose address still names what it had. Words
are drawn at random, so that nobody finds what belongs to another address.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Held = TypeVar("Held")
WORD = 24
"""Letters of a word at the most."""


class Shelf(Generic[Held]):
    """A number of things by word, the longest unused dropped first; safe to call from any thread.

    most: sum of sizes that is kept; size: of a thing; drop: called with what is put away.
    """

    def __init__(
        self,
        most: float,
        size: Callable[[Held], float] = lambda _: 1.0,
        drop: Callable[[Held], None] = lambda _: None,
    ) -> None:
        self._most, self._size, self._drop = most, size, drop
        self._kept: dict[str, Held] = {}
        self._holders: dict[str, set[object]] = {}
        self._lock = threading.Lock()

    def put(self, thing: Held) -> str:
        """Keep it; returns its word."""
        word = secrets.token_urlsafe(9)
        with self._lock:
            self._kept[word] = thing
            dropped = self._overflow()
        for one in dropped:
            self._drop(one)
        return word

    def get(self, word: str) -> Held | None:
        """What a word stands for; None for a word that is not, or no longer, known."""
        with self._lock:
            thing = self._kept.pop(word, None)
            if thing is not None:
                self._kept[word] = thing  # the newest now
            return thing

    def hold(self, word: str, who: object) -> None:
        """A visitor has it in the address."""
        with self._lock:
            if word in self._kept:
                self._holders.setdefault(word, set()).add(who)

    def leave(self, who: object) -> list[str]:
        """A visitor is gone; returns the words that nobody holds any more."""
        alone = []
        with self._lock:
            for word, holders in list(self._holders.items()):
                if who in holders:
                    holders.discard(who)
                    if not holders:
                        del self._holders[word]
                        alone.append(word)
        return alone

    def held(self, word: str) -> bool:
        """Whether a visitor has it in the address."""
        with self._lock:
            return word in self._holders

    def forget(self, word: str) -> None:
        """Put one thing away now."""
        with self._lock:
            thing = self._kept.pop(word, None)
            self._holders.pop(word, None)
        if thing is not None:
            self._drop(thing)

    def _overflow(self) -> list[Held]:
        dropped = []
        while len(self._kept) > 1 and sum(map(self._size, self._kept.values())) > self._most:
            word = next(iter(self._kept))
            dropped.append(self._kept.pop(word))
            self._holders.pop(word, None)
        return dropped
