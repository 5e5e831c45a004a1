"""A crowd at a cold server: sessions at once, idle tabs of Train live, and tabs that all race."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

from benchmarks.visitors import PAGES, Tab, at_once, children, look, resident, server
from workbench.jobs.race_queue import PLACES

MOST_BYTES = 2e9
"""Of the server and everything that it has started."""
LATE = 60.0
"""Seconds after which whatever raced for closed tabs should be gone."""
OVER = re.compile(r"All strategies took|ahead\.\*\*|no winner")
"""What a page says of a race that has ended meanwhile."""
WAITING = re.compile(r"Waiting: (\d+) races? before this one")
Rows = list[tuple[str, str]]


def crowd(sessions: int, tabs: int) -> tuple[Rows, list[str]]:
    """Sessions that open every page of a cold server at once, then tabs of Train live, idle and
    racing; rows, and breaches."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "runs") as (port, pid):
        visits = at_once(port, [PAGES[k % len(PAGES)] for k in range(sessions)])
        failed = [visit for visit in visits if not visit.drawn]
        rows = [(f"{sessions} sessions from cold", f"{len(failed)} with an error page")]
        broken = [f"{visit.page}: {visit.errors or 'not drawn'}" for visit in failed]
        before = resident(pid)
        opened = [look(port, "train_live") for _ in range(tabs)]
        held = resident(pid)
        rows.append(
            (
                f"{tabs} idle tabs of Train live",
                f"server and children {_said(held)}, {_said(before)} before",
            )
        )
        broken += [f"{tab.page}: {tab.errors or 'not drawn'}" for tab in opened if not tab.drawn]
        found, breaches = _race(opened, pid)
        rows += found
        broken += breaches
        if held > MOST_BYTES:
            broken.append(f"{tabs} idle tabs hold {_said(held)}")
    return rows, broken


def _race(tabs: list[Tab], pid: int) -> tuple[Rows, list[str]]:
    """Everybody presses Start; then everybody goes."""
    for tab in tabs:
        tab.ask("Start a race")
    largest, broken = 0, []
    for tab in tabs:
        tab.read()
        largest = max(largest, resident(pid))
        if not tab.drawn:
            broken.append(f"a racing tab: {tab.errors or 'not drawn'}")
        elif not tab.progress and not any(map(OVER.search, tab.texts)):
            broken.append(f"a racing tab does not say how its race stands: {tab.texts[-4:]}")
    said = [WAITING.match(tab.progress) for tab in tabs]
    numbers = [int(one[1]) for one in said if one]
    most = max(len(children(pid)), 0)
    for tab in tabs:
        tab.close()
    began = time.monotonic()
    while children(pid) and time.monotonic() - began < LATE:
        time.sleep(0.2)
    gone = time.monotonic() - began
    if most > PLACES + 1:
        broken.append(f"{most} processes for {PLACES} places")
    if largest > MOST_BYTES:
        broken.append(f"{len(tabs)} racing tabs hold {_said(largest)}")
    if len(tabs) > PLACES and not numbers:
        broken.append("no tab was told that it waits")
    if gone > LATE:
        broken.append(f"{len(children(pid))} processes race for tabs that are closed")
    return [
        (
            f"the same {len(tabs)} tabs, racing",
            f"at most {PLACES} race at once, {len(numbers)} were told how many come before them "
            f"(up to {max(numbers, default=0)}); server and children {_said(largest)}; "
            f"{gone:.0f} s after the tabs were closed no process was left",
        )
    ], broken


def _said(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
