"""Places of a server: so many races at once, in order, and one idle process for everybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workbench.jobs.race_queue import PATIENCE, Track


class Fake:
    """A process that is only counted."""

    running = 0

    def __init__(self) -> None:
        self.alive = True
        Fake.running += 1

    def close(self) -> None:
        Fake.running -= self.alive
        self.alive = False


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def track(places: int = 2) -> tuple[Track, Clock]:
    Fake.running = 0
    clock = Clock()
    return Track(places, make=Fake, clock=clock), clock  # type: ignore[arg-type]


def test_twenty_visitors_share_one_idle_process():
    places, _ = track()
    for who in range(20):
        places.visit(who)
    assert Fake.running == 1
    for who in range(20):
        places.leave(who)
    assert Fake.running == 0


def test_whoever_comes_third_waits_with_a_number_and_is_next():
    places, _ = track()
    for who in "abcd":
        places.visit(who)
    assert isinstance(places.ask("a"), Fake)
    assert isinstance(places.ask("b"), Fake)
    assert places.ask("c") == 1
    assert places.ask("d") == 2
    places.done("a")
    assert places.ask("d") == 1
    assert isinstance(places.ask("c"), Fake)
    assert Fake.running == 2


def test_one_who_went_away_while_waiting_holds_nobody_up():
    places, clock = track(1)
    places.ask("a")
    assert places.ask("gone") == 1
    assert places.ask("c") == 2
    clock.now = PATIENCE + 1
    places.done("a")
    assert isinstance(places.ask("c"), Fake)


def test_a_process_that_died_gives_its_place_back():
    places, _ = track(1)
    worker = places.ask("a")
    assert places.ask("b") == 1
    worker.close()
    assert isinstance(places.ask("b"), Fake)


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from(["visit", "ask", "done", "leave"]), st.integers(0, 5)),
        max_size=60,
    ),
)
def test_there_are_never_more_processes_than_places_and_one(count, moves):
    places, _ = track(count)
    for move, who in moves:
        getattr(places, move)(who)
        assert Fake.running <= count + 1
    for who in range(6):
        places.leave(who)
    assert Fake.running == 0
