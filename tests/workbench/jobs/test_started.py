"""A sweep that was cut off is noted in its store and can be gone on with from the page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from workbench.jobs.started import forget, note, started
from workbench.jobs.sweep import Watch, check_sweep
from workbench.spec.sweep import Sweep
from workbench.store.runs import Store

PAGE = Path(__file__).parents[3] / "workbench" / "pages" / "sweeps.py"
TEXT = """
strategies = ["sft"]
seeds = 2
[world]
items = 64
test_prompts = 16
validation_prompts = 16
[policy]
width = 8
[start]
all_zero = 0.6
[train]
steps = 4
evaluations = 2
batch = 8
group = 8
"""


@pytest.fixture
def plan() -> Sweep:
    return check_sweep(TEXT)


def worker(plan: Sweep, root: Path) -> str:
    """What the worker says of an order whose stdin stays open until it ends."""
    order = json.dumps({"sweep": plan.model_dump(mode="json"), "store": str(root)})
    with subprocess.Popen(
        [sys.executable, "-m", "workbench.jobs.sweep_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(order + "\n")
        child.stdin.flush()
        return child.stdout.read()


def test_a_sweep_that_ends_leaves_no_note(plan, tmp_path):
    assert '"end"' in worker(plan, tmp_path)
    assert started(Store(tmp_path)).is_empty()
    assert (tmp_path / "sweeps").is_dir()


def test_a_note_says_what_is_missing_and_why_and_can_be_forgotten(plan, tmp_path):
    store = Store(tmp_path).prepare()
    note(plan, store, "refused", "the disk is full")
    (row,) = started(store).to_dicts()
    assert (row["runs"], row["missing"], row["state"]) == (2, 2, "refused")
    assert row["reason"] == "the disk is full"
    assert Sweep.model_validate(json.loads(row["sweep"])) == plan
    forget(plan, store)
    assert started(store).is_empty()


def test_a_note_that_cannot_be_read_is_left_out(plan, tmp_path):
    store = Store(tmp_path).prepare()
    note(plan, store, "started")
    (tmp_path / "started" / "bad.json").write_text("{")
    assert started(store).height == 1


def test_the_page_offers_to_go_on_with_what_was_cut_off(plan, tmp_path, monkeypatch):
    note(plan, Store(tmp_path).prepare(), "started")
    monkeypatch.setenv("RECAST_STORE", str(tmp_path))
    app = AppTest.from_file(str(PAGE), default_timeout=180)
    app.query_params["view"] = "start"
    app.run()
    assert not app.exception
    assert app.button(key="resume-started").label == "Resume: 2 of 2 runs are missing"
    app.button(key="forget").click().run()
    assert not app.exception
    assert started(Store(tmp_path)).is_empty()


def test_rates_that_are_added_start_a_new_round_with_its_own_pace(plan, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.jobs.job.Child", lambda module: Silent())
    watch = Watch(plan, tmp_path).told
    assert watch.left() is None
    for done in (1, 3, 1):
        watch.take_in({"kind": "progress", "done": done, "total": 4, "text": "training"})
    assert watch.rounds == 2
    assert watch.left() is not None


class Silent:
    """A process that says nothing."""

    def say(self, line: str) -> None:
        del line
