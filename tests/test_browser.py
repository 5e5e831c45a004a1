"""Every page in a real, headless Chromium, against a server that the test starts on loopback.

Nothing here sleeps: each step waits for what a user would see.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 120_000  # milliseconds; the machine may be busy with the rest of the tests
CHART = '[data-testid="stVegaLiteChart"]'
IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"]'


@dataclass
class Visit:
    """A tab, and what it complained about: console errors, requests that left the machine."""

    tab: object
    server: str
    complaints: list[str] = field(default_factory=list)

    def open(self, address: str, charts: int) -> None:
        """Go to a page and wait until it has settled with that many charts."""
        self.tab.goto(f"{self.server}/{address}", wait_until="domcontentloaded")
        self.tab.wait_for_selector('[data-testid="stMain"] h1')
        self.settled(charts)

    def settled(self, charts: int) -> None:
        """Wait until the script has run and that many charts are there, each with marks."""
        self.tab.wait_for_function(
            """([chart, count, idle]) => {
                const frames = [...document.querySelectorAll(chart)];
                return document.querySelector(idle) && frames.length === count && frames.every(
                    frame => frame.querySelector('svg .mark-group path, svg .mark-group line'));
            }""",
            arg=[CHART, charts, IDLE],
        )

    def charts(self) -> list[str]:
        """The drawing of each chart, as markup."""
        return self.tab.eval_on_selector_all(
            CHART, "frames => frames.map(frame => frame.querySelector('svg')?.innerHTML ?? '')"
        )

    def changes(self, act: Callable[[], None], chart: int = 0) -> None:
        """Do something and wait until that chart is drawn differently."""
        drawn = self.charts()
        before = drawn[chart]
        act()
        self.tab.wait_for_function(
            """([chart, index, before]) => {
                const frame = document.querySelectorAll(chart)[index];
                const drawn = frame?.querySelector('svg')?.innerHTML;
                return drawn && drawn !== before;
            }""",
            arg=[CHART, chart, before],
        )
        self.settled(len(drawn))

    def healthy(self) -> None:
        """No exception, no error box, nothing in the console, nothing fetched from elsewhere."""
        for kind in ("stException", "stAlertContentError"):
            shown = self.tab.locator(f'[data-testid="{kind}"]')
            assert shown.count() == 0, shown.first.inner_text()
        assert self.complaints == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on a free loopback port, with an empty store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")),
                *("--server.port", str(port), "--server.fileWatcherType", "none"),
            ],
            cwd=ROOT,
            env=os.environ
            | {
                "OMP_NUM_THREADS": "1",
                "RECAST_STORE": str(folder / "store"),
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if not CHROMIUM.exists() and shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium to run this test")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    try:
        found = str(CHROMIUM) if CHROMIUM.exists() else shutil.which("chromium")
        chromium = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        try:
            yield chromium
        finally:
            chromium.close()
    finally:
        playwright.stop()


@pytest.fixture
def visit(browser, server: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    guest = Visit(tab, server)

    def overhear(line) -> None:
        # Below a page's path Streamlit asks for these two there first, and then at the root.
        path = urlsplit(line.location.get("url", "")).path
        expected = re.fullmatch(r"/\w+/_stcore/(health|host-config)", path)
        if line.type == "error" and not expected:
            guest.complaints.append(f"{line.text} ({path})")

    tab.on("console", overhear)
    tab.on("pageerror", lambda problem: guest.complaints.append(str(problem)))

    def loopback_only(route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            guest.complaints.append(f"asked for {route.request.url}")
            route.abort()

    context.route(lambda address: address.startswith("http"), loopback_only)
    wait_until_up(tab, server)
    yield guest
    context.close()


def wait_until_up(tab, server: str) -> None:
    """Wait for the server's health answer; the client retries refused connections."""
    import urllib.error
    import urllib.request

    for _ in range(1200):
        try:
            with urllib.request.urlopen(f"{server}/_stcore/health", timeout=60) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError):
            tab.wait_for_timeout(100)
    pytest.fail(f"the app did not come up at {server}")


def nudge(visit: Visit, label: str, key: str = "ArrowRight") -> None:
    """Move a slider with the keyboard."""
    slider = visit.tab.get_by_role("slider", name=label).first
    slider.focus()
    slider.press(key)


def choose(visit: Visit, label: str, option: str) -> None:
    """Pick an option of a select box."""
    box = visit.tab.get_by_role("combobox", name=label).first
    box.click()
    visit.tab.get_by_role("option", name=option, exact=True).click()


PAGES = {
    "learnability": (4, lambda visit: nudge(visit, "Spread over prompts", "PageUp")),
    "gradient_signals": (3, lambda visit: nudge(visit, "Rollouts per group, G")),
    "budget": (2, lambda visit: choose(visit, "Metric", "Recall@10")),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_renders_its_charts_and_a_control_redraws_them(visit: Visit, name: str) -> None:
    charts, act = PAGES[name]
    visit.open("" if name == "learnability" else name, charts)
    visit.healthy()
    visit.changes(lambda: act(visit))
    visit.healthy()
    assert len(visit.charts()) == charts


def test_the_navigation_leads_to_every_page(visit: Visit) -> None:
    visit.open("", PAGES["learnability"][0])
    links = visit.tab.locator('[data-testid="stSidebarNavLink"]')
    assert links.count() == len(PAGES)
    titles = set()
    for place, (charts, _) in enumerate(PAGES.values()):
        links.nth(place).click()
        visit.tab.wait_for_function(
            "seen => !seen.includes(document.querySelector('[data-testid=stMain] h1')?.innerText)",
            arg=sorted(titles),
        )
        visit.settled(charts)
        titles.add(visit.tab.locator('[data-testid="stMain"] h1').first.inner_text())
        visit.healthy()
    assert all(title.endswith("?") for title in titles)
