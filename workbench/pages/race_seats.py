"""The place of a race on this server: its process while it races, and what it has told."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Literal

import streamlit as st

from workbench.jobs.race import Race, Worker
from workbench.jobs.race_queue import Track
from workbench.pages.server_shelf import Shelf
from workbench.pages.stored import store_folder
from workbench.plurals import number_of
from workbench.spec.experiment import Experiment
from workbench.store.runs import Store

RELOAD = 20.0
"""Seconds in which a page that is loaded anew finds its race again."""
RACES = 24
"""Races that a server remembers."""


class Seat:
    """One race, from its order on; `said` is what the page last said about it."""

    def __init__(self, places: Track, spec: Experiment, rates: Mapping[str, float]) -> None:
        self._places = places
        self._looking = threading.Lock()
        self._worker: Worker | None = None
        self._root = Store(store_folder()).prepare().root
        self.race = Race(spec, dict(rates))
        self.said = ""
        self.look()

    def look(self) -> Race:
        """The race as it stands: on its way, or still waiting for a place.

        Two runs of a page may look at once: without the lock both would ask for a process, and the
        second would end the first one's.
        """
        with self._looking:
            return self._looked()

    def _looked(self) -> Race:
        race = self.race
        worker = self._worker
        if worker is not None:
            worker.look()
            if race.over:
                self._worker = None
                self._end()
        elif not race.over:
            found = self._places.ask(self)
            if isinstance(found, int):
                race.text = f"Waiting: {number_of(found, 'race')} before this one"
            else:
                self._worker = found
                found.start(race.spec, race.rates, self._root, race)
        return race

    def steer(self, word: Literal["pause", "resume", "stop"]) -> None:
        """Pass a word on to the race; one that waits can only be called off."""
        if self._worker is not None:
            {
                "pause": self._worker.pause,
                "resume": self._worker.resume,
                "stop": self._worker.stop,
            }[word]()
        elif word == "stop":
            self.race.state = "stopped"
            self._end()

    def _end(self) -> None:
        """Give the place back, and have a process ready while anybody is here."""
        self._places.done(self)
        self._places.leave(self)

    def close(self) -> None:
        """Nobody watches any more: its process ends, what it told stays for a while."""
        if not self.race.over:
            self.race.state, self.race.text = "stopped", "Nobody watched"
        self._worker = None
        self._places.leave(self)


@st.cache_resource(show_spinner=False)
def track() -> Track:
    """The places of this server."""
    return Track()


@st.cache_resource(show_spinner=False)
def races() -> Shelf[Seat]:
    """The races of this server, by the word in their address."""
    return Shelf(RACES, drop=lambda seat: seat.close())


class Visitor:
    """A browser tab. A race that no tab holds any more is ended."""

    def __init__(self) -> None:
        track().visit(self)

    def close(self) -> None:
        """The tab is gone, or is only being loaded anew: its races are given time to be found."""
        track().leave(self)
        for word in races().leave(self):
            timer = threading.Timer(RELOAD, end_if_alone, (word,))
            timer.daemon = True
            timer.start()


def end_if_alone(word: str) -> None:
    """End a race that no tab has found again."""
    seat = races().get(word)
    if seat is not None and not races().held(word):
        seat.close()


@st.cache_resource(scope="session", show_spinner=False, on_release=lambda one: one.close())
def visitor() -> Visitor:
    """Lives as long as the tab."""
    return Visitor()
