"""A race's place on the server, where several runs of a page look at it."""

from __future__ import annotations

import threading

from workbench.pages.race_seats import Seat
from workbench.spec.experiment import load_experiment


class Places:
    """Busy at first; then it gives a process, slowly enough for a second look to come meanwhile."""

    def __init__(self) -> None:
        self.asked, self.free, self.second = 0, False, threading.Event()

    def ask(self, who: object) -> object:
        if not self.free:
            return 1
        self.asked += 1
        if self.asked > 1:
            self.second.set()
        self.second.wait(0.3)
        return Started()


class Started:
    """A process that has begun."""

    def start(self, *_: object) -> None:
        pass

    def look(self) -> None:
        pass


def test_two_looks_at_once_get_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.pages.race_seats.store_folder", lambda: tmp_path / "runs")
    places = Places()
    seat = Seat(places, load_experiment("quick", {}), {"sft": 0.01})  # type: ignore[arg-type]
    assert "Waiting: 1 race before this one" in seat.race.text
    places.free = True
    looks = [threading.Thread(target=seat.look) for _ in range(2)]
    for look in looks:
        look.start()
    for look in looks:
        look.join()
    assert places.asked == 1
