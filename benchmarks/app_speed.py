"""How quick the app feels, in a real browser: python benchmarks/app_speed.py [--runs 5000]

Prints the time to the title and the picture of the home page and to the whole of Learnability in a
fresh and in a warm server, the switch to each page by the navigation, a step of the story, the
median time from a key press on a slider until all charts are redrawn, how long the Sweeps page
takes to open and to filter with many stored runs, and a race to its first curves.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from browser import CHART, DRAWN, app, tab

from recast.ledger import RunRecord
from workbench import charts
from workbench.store.runs import Store

REDRAWN = f"""before => {{
    const drawn = document.querySelector('{CHART} svg')?.innerHTML;
    return drawn && drawn !== before;
}}"""


ALL_REDRAWN = f"""before => {{
    const drawn = [...document.querySelectorAll('{CHART} svg')].map(one => one.innerHTML);
    return drawn.length === before.length && drawn.every((one, place) => one !== before[place]);
}}"""


def fill(root: Path, runs: int) -> None:
    """A store of made-up runs."""
    store = Store(root).prepare()
    row = dict.fromkeys(charts.METRICS, 0.1) | dict.fromkeys(charts.COUNTS, 1.0)
    for i in range(runs):
        rows = [
            row | {"split": split, "slice": "all", "step": step, "rollouts": step, "labels": 0}
            for split in ("test", "validation")
            for step in (0, 10, 20)
        ]
        config = {
            "strategy": ("grpo", "recast", "sft")[i % 3],
            "seed": i // 60,
            "lr": (0.001, 0.01)[i % 2],
            "cell": f"cell{i // 6 % 10}",
            "world": "demo",
            "group": 8,
        }
        store.write(f"run{i:05d}", RunRecord(config, tuple(rows), {}))


def opening(page: Any, address: str, which: str) -> None:
    """To the title and the picture of the home page, and to all of Learnability."""
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector('[data-testid="stMain"] h1')
    say(f"start page, {which}: title", time.perf_counter() - began)
    page.wait_for_function(f"document.querySelector('{CHART} svg .mark-group path')")
    say(f"start page, {which}: first picture", time.perf_counter() - began)
    began = time.perf_counter()
    page.goto(f"{address}/learnability", wait_until="commit")
    page.wait_for_function(DRAWN, arg=2)
    say(f"Learnability, {which}: all of it", time.perf_counter() - began)


SWITCHED = f"""([before, count]) => {{
    const title = document.querySelector('[data-testid=stMain] h1')?.innerText;
    return title && title !== before && ({DRAWN})(count);
}}"""
SWITCHES = {
    "Learnability": 2,
    "Gradient signals": 1,
    "Train live": 1,
    "Budget to target": 2,
    "Sweeps": 0,
    "Real models": 2,
    "Your rollouts": 0,
    "Claims": 0,
    "One prompt, 32 rollouts": 1,
}
"""Pages and how many charts each has drawn when it is complete."""


def switches(page: Any, rounds: int = 4) -> None:
    """Median seconds from a click in the navigation to all of the page, each after its first."""
    taken: dict[str, list[float]] = {name: [] for name in SWITCHES}
    links = page.get_by_test_id("stSidebarNav")
    for _ in range(rounds):
        for name, count in SWITCHES.items():
            before = page.locator('[data-testid="stMain"] h1').first.inner_text()
            began = time.perf_counter()
            links.get_by_role("link", name=name, exact=True).click()
            page.wait_for_function(SWITCHED, arg=[before, count])
            taken[name].append(time.perf_counter() - began)
    for name, seconds in taken.items():
        say(f"switch to {name}, median", statistics.median(seconds[1:]))


def next_step(page: Any, address: str) -> float:
    """Seconds from Next to the next picture."""
    page.goto(address)
    page.wait_for_function(DRAWN, arg=1)
    before = page.locator(f"{CHART} svg").first.evaluate("drawing => drawing.innerHTML")
    began = time.perf_counter()
    page.get_by_role("button", name="Next").click()
    page.wait_for_function(REDRAWN, arg=before)
    return time.perf_counter() - began


def slider(page: Any, charts: int = 2, presses: int = 15) -> float:
    """Median seconds from a key press until every chart of the page is redrawn."""
    handle = page.get_by_role("slider").first
    handle.focus()
    taken = []
    for _ in range(presses):
        page.wait_for_function(DRAWN, arg=charts)
        before = page.locator(f"{CHART} svg").evaluate_all(
            "drawings => drawings.map(one => one.innerHTML)"
        )
        began = time.perf_counter()
        page.keyboard.press("ArrowRight")  # the focus is kept: nothing is looked up meanwhile
        page.wait_for_function(ALL_REDRAWN, arg=before)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


LINKED = """() => [...document.querySelectorAll('*')]
    .map(host => host.shadowRoot?.querySelector('#linked')).find(Boolean)"""


def linked(page: Any, presses: int = 7) -> float:
    """Median seconds from a key press on a slider to the linked picture of another group."""
    handle = page.get_by_role("slider").first
    taken = []
    for _ in range(presses):
        before = page.locator("#linked [data-rollout]").count()
        handle.focus()
        began = time.perf_counter()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            f"before => ({LINKED})().querySelectorAll('[data-rollout]').length !== before",
            arg=before,
        )
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def dragged(page: Any, moves: int = 15) -> float:
    """Median seconds that the browser takes to redraw the linked picture for a moved rollout."""
    taken = []
    for move in range(moves):
        row = page.locator("#linked [data-rollout]").first
        row.focus()
        row.press("ArrowLeft" if move % 2 else "ArrowRight")
        taken.append(float(page.locator("#linked").get_attribute("data-milliseconds")) / 1000)
    return statistics.median(taken)


def race(page: Any, address: str) -> None:
    """From the press on Start to the first curves, the warm start trained and then cached."""
    page.goto(f"{address}/train_live")
    for warm in ("trained on the spot", "cached"):
        page.locator(".st-key-start button:enabled").wait_for()
        page.wait_for_timeout(5000)  # a user chooses; the worker imports
        began = time.perf_counter()
        page.locator(".st-key-start button:enabled").click()
        page.get_by_test_id("stProgress").wait_for()
        page.wait_for_function(f"!document.querySelector('{CHART}')")
        page.wait_for_function(f"document.querySelectorAll('{CHART} svg .mark-group path').length")
        say(f"Train live, first curve, warm start {warm}", time.perf_counter() - began)
        page.locator(".st-key-stop button:enabled").click()


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=5000)
    runs = options.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, tab() as page:
        with app(Path(folder) / "empty") as address:
            opening(page, address, "first visit of a fresh server")
            opening(page, address, "next visit")
            page.goto(address)
            page.wait_for_function(DRAWN, arg=1)
            switches(page)
            say("a step of the story", next_step(page, address))
            page.goto(f"{address}/learnability")
            page.wait_for_function(DRAWN, arg=2)
            say("slider on Learnability, all charts, median", slider(page))
            page.goto(f"{address}/gradient_signals")
            page.wait_for_function(DRAWN, arg=1)
            say("slider on Gradient signals, median", linked(page))
            say("a rollout dragged on Gradient signals, in the browser", dragged(page))
            race(page, address)
        fill(Path(folder) / "full", runs)
        with app(Path(folder) / "full") as address:
            for visit in ("first", "next"):
                began = time.perf_counter()
                page.goto(f"{address}/sweeps", wait_until="commit")
                page.get_by_text(f"{runs:,} of {runs:,} runs").wait_for()
                say(f"Sweeps with {runs:,} runs, {visit} visit", time.perf_counter() - began)
            began = time.perf_counter()
            page.get_by_text("Only runs at their").click()
            page.get_by_text(f"of {runs:,} runs in").wait_for()
            page.wait_for_function(
                f"!document.body.innerText.includes('{runs:,} of {runs:,} runs')"
            )
            say("a filter on it", time.perf_counter() - began)


def say(what: str, seconds: float) -> None:
    """One line of the result."""
    print(f"{what}: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
