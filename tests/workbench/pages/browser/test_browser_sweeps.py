"""A sweep in the browser, from its text to its runs; it needs no tab to go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import PATIENCE, Server, Visit, ended, press, write
from sweeping import small_sweep

from workbench.jobs.sweep_listing import listing
from workbench.store.runs import Store

pytestmark = pytest.mark.browser
WORKER = "workbench.jobs.sweep_worker"


def test_a_sweep_is_checked_started_left_alone_browsed_taken_away_and_deleted(
    visit: Visit, server: Server, tmp_path: Path
) -> None:
    visit.open("sweeps?view=start", 0)
    write(visit, small_sweep(["sft", "recast"], seeds=0))
    visit.tab.get_by_text("seeds: ").first.wait_for()
    write(visit, small_sweep(["sft", "recast"], seeds=2))
    visit.tab.get_by_text("4 runs in 1 cell, 4 of them not yet").wait_for()
    press(visit, "launch")
    visit.tab.get_by_role("heading", name="Which sweeps are there").wait_for()
    visit.tab.goto("about:blank")  # nobody watches, and it goes on
    store = Store(server.store)
    for _ in range(PATIENCE // 100):
        if listing(store)["status"].to_list() == ["finished"]:
            break
        visit.tab.wait_for_timeout(100)
    visit.open("sweeps?view=sweeps", 0)
    visit.tab.get_by_text("4 runs trained").wait_for()
    visit.open("sweeps", 0)
    visit.tab.get_by_text("4 of 4 runs in 1 cell.").wait_for()
    table = visit.tab.locator(".st-key-runs .dvn-scroller").first
    table.click(position={"x": 15, "y": 15})  # the box that selects every row
    visit.tab.get_by_role("heading", name="How did these 4 runs go?").wait_for()
    visit.settled(1)
    visit.tab.get_by_test_id("stDataFrame").first.hover()
    visit.tab.get_by_label("Search: One row per stored run").first.wait_for()
    bare = visit.tab.get_by_label("Download as CSV: One row per stored run")
    assert [bare.count(), bare.is_visible()] == [1, False]  # it would write formulas
    press(visit, "pin")
    visit.tab.wait_for_url("**pins=*")
    for key, name, start in (
        ("selection-report", "runs.html", b"<!doctype html>"),
        ("selection-notebook", "runs.ipynb", b"{"),
    ):
        with visit.tab.expect_download() as download:
            visit.tab.locator(f".st-key-{key} button:enabled").first.click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.name == name
        assert path.read_bytes().startswith(start)
    press(visit, "delete")
    press(visit, "delete-sure")
    visit.tab.get_by_text("4 runs are in the bin").wait_for()
    assert list((server.store / "runs").iterdir()) == []
    press(visit, "undo-delete")
    visit.tab.get_by_text("4 runs are back").wait_for()
    assert len(list((server.store / "runs").iterdir())) == 4
    visit.healthy()


@pytest.mark.drill
def test_a_sweep_is_stopped_and_resumed_from_the_page(visit: Visit, server: Server) -> None:
    visit.open("sweeps?view=start", 0)
    write(visit, small_sweep(["sft", "recast"], seeds=16, steps=5000))
    press(visit, "launch")
    for _ in range(2):  # as it was started, and as it was resumed
        visit.tab.locator(".st-key-stop-sweep button:enabled").wait_for()
        visit.tab.get_by_text("of 32 runs stored").wait_for()
        assert len(server.children(WORKER)) == 1
        press(visit, "stop-sweep")
        visit.tab.get_by_text("Stopped; finished runs are kept.").wait_for()
        assert ended(visit, server, WORKER)
        visit.tab.get_by_role("button", name="Resume: ").click()
    visit.tab.locator(".st-key-stop-sweep button:enabled").wait_for()
    press(visit, "stop-sweep")
    assert ended(visit, server, WORKER)
    visit.healthy()
