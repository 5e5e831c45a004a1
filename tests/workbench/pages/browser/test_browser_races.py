"""Races in the browser: started, steered, found again after a reload, and never an orphan."""

from __future__ import annotations

import os
import re
import shutil
import signal

import pytest
from browsing import PATIENCE, Server, Visit, ended, nudge, press

pytestmark = pytest.mark.browser
WORKER = "workbench.jobs.race_worker"
LONG = "train_live?items=256&seeds=4&steps=5000&group=32&all_zero=60"
"""A race that is not over before the test is, on a fast machine either."""


def begin(visit: Visit) -> None:
    """Start a race and wait for its first trees and curve; races of tabs that are gone may hold the
    places for some seconds."""
    press(visit, "start")
    visit.tab.get_by_text(re.compile("^(?!Waiting).* of all steps")).wait_for()
    visit.settled(1)


def test_a_race_streams_pauses_is_found_again_stops_and_reports_a_killed_worker(
    visit: Visit, server: Server
) -> None:
    visit.open(LONG, 1)
    begin(visit)
    visit.changes(lambda: None)  # nobody touches it: the next points come in by themselves
    visit.healthy()
    press(visit, "pause")
    visit.tab.get_by_text("Paused.").wait_for()
    (worker,) = server.children(WORKER)
    links = visit.tab.locator('[data-testid="stSidebarNavLink"]')
    links.filter(has_text="One prompt").click()
    visit.tab.get_by_role("button", name="Next").wait_for()
    links.filter(has_text="Train live").click()
    visit.tab.get_by_text("of all steps").wait_for()
    visit.tab.wait_for_url("**race=*")
    visit.tab.reload()
    visit.tab.get_by_text("of all steps").wait_for()
    assert server.children(WORKER) == {worker}
    visit.settled(1)
    press(visit, "resume")
    visit.changes(lambda: None)
    press(visit, "stop")
    visit.tab.locator(".st-key-start button:enabled").wait_for()
    assert "Stopped" in visit.tab.get_by_test_id("stAlert").first.inner_text()
    visit.healthy()
    begin(visit)
    (other,) = server.children(WORKER)
    os.kill(other, signal.SIGKILL)
    visit.tab.get_by_text("ended unexpectedly").wait_for()
    visit.tab.locator(".st-key-start button:enabled").wait_for()
    visit.settled(1)
    visit.healthy()
    begin(visit)
    assert len(server.children(WORKER)) == 1
    visit.tab.close()
    looking = visit.tab.context.new_page()
    looking.set_default_timeout(PATIENCE)
    assert ended(Visit(looking, server), server, WORKER)


def test_a_race_that_is_over_can_be_kept(visit: Visit, server: Server) -> None:
    visit.open("train_live?items=256&seeds=1&steps=20&group=8&all_zero=60&strategies=sft", 1)
    press(visit, "start")
    visit.tab.get_by_text("All strategies took 20 steps").wait_for()
    press(visit, "keep")
    visit.tab.get_by_text("1 run is in the store").wait_for()
    visit.tab.get_by_text("World, start, steps").click()
    nudge(visit, "Seeds")
    visit.tab.get_by_text("Outdated: the controls have moved").wait_for()
    assert len(list((server.store / "runs").iterdir())) == 1
    shutil.rmtree(server.store / "runs")
    visit.healthy()
