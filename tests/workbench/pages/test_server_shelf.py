"""What a server keeps for an address: found by its word, bounded, put away once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workbench.pages.server_shelf import WORD, Shelf


@given(sizes=st.lists(st.integers(1, 9), max_size=30), most=st.integers(1, 20))
def test_a_shelf_never_keeps_more_than_it_may_and_drops_each_thing_once(sizes, most):
    dropped: list[tuple[int, int]] = []
    shelf = Shelf[tuple[int, int]](most, size=lambda one: one[1], drop=dropped.append)
    words = [shelf.put((place, size)) for place, size in enumerate(sizes)]
    assert len(set(words)) == len(words)
    assert all(len(word) <= WORD for word in words)
    kept = [one for word in words if (one := shelf.get(word)) is not None]
    assert len(kept) <= 1 or sum(size for _, size in kept) <= most
    assert sorted([*kept, *dropped]) == list(enumerate(sizes))
    if sizes:
        assert shelf.get(words[-1]) is not None  # the newest always stays


def test_what_was_looked_at_last_is_dropped_last_and_an_unknown_word_is_nothing():
    shelf = Shelf[str](2)
    first, second = shelf.put("first"), shelf.put("second")
    assert shelf.get(first) == "first"
    shelf.put("third")
    assert shelf.get(second) is None
    assert shelf.get(first) == "first"
    assert shelf.get("no such word") is None
    shelf.forget(first)
    assert shelf.get(first) is None


def test_a_thing_is_alone_when_its_last_holder_leaves():
    shelf = Shelf[str](9)
    word = shelf.put("race")
    for who in ("tab", "other"):
        shelf.hold(word, who)
    assert shelf.leave("tab") == []
    assert shelf.held(word)
    assert shelf.leave("other") == [word]
    assert not shelf.held(word)
    assert shelf.get(word) == "race"  # time is given to find it again
