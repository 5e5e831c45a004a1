"""A sweep that the app starts goes on by itself, is listed with its status, stopped and resumed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from sweeping import small_sweep

from workbench.errors import UserError
from workbench.jobs.started_sweeps import Note
from workbench.jobs.sweep import Sweeping, Watch, check_sweep
from workbench.jobs.sweep_labels import Labels, label, labels_of
from workbench.jobs.sweep_listing import listing
from workbench.spec.sweep import Sweep
from workbench.store.runs import Store

PAGE = Path(__file__).parents[3] / "workbench" / "pages" / "sweeps.py"
PATIENCE = 300.0


@pytest.fixture
def plan() -> Sweep:
    return check_sweep(small_sweep(["sft"], seeds=2))


def until(enough: Callable[[], bool]) -> None:
    """Wait for another process; the pause only keeps the loop from spinning."""
    patience, deadline = threading.Event(), time.monotonic() + PATIENCE
    while not enough():
        assert time.monotonic() < deadline
        patience.wait(0.05)


def over(watch: Watch) -> bool:
    return watch.look().told.over and not watch.note.alive


def only(store: Store) -> dict:
    (row,) = listing(store).to_dicts()
    return row


def test_a_sweep_goes_on_without_whoever_started_it_and_anybody_can_watch_it(plan, tmp_path):
    store = Store(tmp_path)
    started = Watch.start(plan, store)
    with pytest.raises(UserError, match="already running"):
        Watch.start(plan, store)
    row = only(store)
    assert (row["status"], row["runs"]) == ("running", 2)
    assert os.getsid(started.note.pid) != os.getsid(0)
    another = Watch(Note.of(plan, store))  # as a page of another tab, or of a new server, has it
    until(lambda: over(another))
    assert another.told.state == "finished"
    assert another.told.text == "2 runs trained, 0 were there before."
    assert over(started)
    row = only(store)
    assert (row["status"], row["missing"], row["failed"]) == ("finished", 0, 0)
    assert row["seconds"] > 0
    assert store.load()["run"].n_unique() == 2


def test_a_sweep_is_stopped_listed_so_and_goes_on_from_what_is_stored(tmp_path):
    plan, store = check_sweep(small_sweep(["sft"], seeds=1, steps=200_000)), Store(tmp_path)
    early = Watch.start(plan, store)
    early.note.stop()  # before it can have taken anything in
    until(lambda: over(early))
    assert only(store)["status"] == "stopped"
    watch = Watch.start(plan, store)
    until(lambda: watch.look().told.share > 0 or watch.told.text != "Starting")
    watch.stop()
    until(lambda: over(watch))
    assert watch.told.state == "stopped"
    assert only(store)["status"] == "stopped"
    again = Watch.start(plan, store)
    until(lambda: again.look().told.text != "Starting")
    os.kill(again.note.pid, signal.SIGKILL)
    until(lambda: over(again))
    assert again.told.state == "lost"
    assert only(store)["status"] == "cut off"
    again.note.forget()
    assert listing(store).is_empty()


def test_labels_stand_beside_a_sweep_and_what_is_unreadable_is_none(plan, tmp_path):
    store = Store(tmp_path).prepare()
    note = Note.of(plan, store)
    note.write(plan, "refused", "the disk is full")
    written = Labels("my sweep", ("first", "odd"), "a note", True)
    label(store, note.name, written)
    row = only(store)
    assert (row["title"], row["tags"], row["text"]) == ("my sweep", ["first", "odd"], "a note")
    assert (row["archived"], row["status"], row["why"]) == (True, "refused", "the disk is full")
    for broken in ("{", "[]", '{"title": 1}', "null"):
        (tmp_path / "labels" / f"{note.name}.json").write_text(broken)
        assert labels_of(store, note.name) == Labels()
    (tmp_path / "started" / "bad.json").write_text("{")
    assert listing(store).height == 1


def test_the_page_lists_what_was_cut_off_offers_to_go_on_and_archives(plan, tmp_path, monkeypatch):
    store = Store(tmp_path).prepare()
    note = Note.of(plan, store)
    note.write(plan, "started", began=0.0)
    monkeypatch.setenv("RECAST_STORE", str(tmp_path))
    app = AppTest.from_file(str(PAGE), default_timeout=180)
    app.query_params["view"] = "sweeps"
    app.run()
    assert not app.exception
    assert app.button(key="resume-sweep").label == "Resume: 2 of 2 runs missing"
    app.button(key="archive-sweep").click().run()
    assert not app.exception
    assert "archived" in app.info[0].value
    assert only(store)["archived"]
    app.toggle(key="archived").set_value(True).run()
    app.button(key="forget").click().run()
    assert not app.exception
    assert listing(store).is_empty()


def test_rates_that_are_added_start_a_new_round_with_its_own_pace():
    watch = Sweeping()
    assert watch.left() is None
    for done in (1, 3, 1):
        watch.take_in({"kind": "progress", "done": done, "total": 4, "text": "training"})
    assert watch.rounds == 2
    assert watch.left() is not None


def test_a_note_of_another_s_making_is_no_note(tmp_path):
    folder = tmp_path / "started"
    folder.mkdir()
    for place, content in enumerate(("{}", "[]", '{"sweep": 1}', "nul", "x" * 10)):
        (folder / f"{place}.json").write_text(content)
    (folder / "deep.json").write_text("[" * 100_000)
    assert listing(Store(tmp_path)).is_empty()
    assert json.loads(listing(Store(tmp_path)).write_json()) == []
