"""A server of the app and a tab of a headless Chromium, as the browser tests use them.

Nothing here sleeps: each step waits for what a user would see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from workbench.studies.packaged import packaged as study

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


@dataclass(frozen=True)
class Server:
    """A running app: its address, its process, its store."""

    address: str
    pid: int
    store: Path

    def watched(self) -> int:
        """Files and folders that the system watches for the app."""
        told = Path(f"/proc/{self.pid}/fdinfo").glob("*")
        return sum(one.read_text().count("inotify wd:") for one in told if one.exists())

    def children(self, module: str) -> set[int]:
        """Processes that the app has started for `python -m MODULE` and that still run."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if stat[0] != "Z" and int(stat[1]) == self.pid and module.encode() in command:
                found.add(int(folder.name))
        return found


@dataclass
class Visit:
    """A tab, and what it complained about: console errors, requests that left the machine."""

    tab: Any
    server: Server
    complaints: list[str] = field(default_factory=list)

    def open(self, address: str, charts: int) -> None:
        """Go to a page and wait until it has settled with that many charts."""
        self.tab.goto(f"{self.server.address}/{address}", wait_until="domcontentloaded")
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

    def length(self) -> int:
        """Height of the page's content in pixels, once nothing on it is still a placeholder and
        it has stood still for 60 frames: tables, sliders and code are drawn after the charts."""
        settled = self.tab.wait_for_function(
            """() => {
                const page = document.querySelector('[data-testid=stMainBlockContainer]');
                const seen = window.seenLength ??= {height: 0, frames: 0};
                const still = !page.querySelector('[data-testid=stSkeleton]')
                    && page.scrollHeight === seen.height;
                seen.frames = still ? seen.frames + 1 : 0;
                seen.height = page.scrollHeight;
                return seen.frames >= 60 && seen.height;
            }"""
        )
        return int(settled.json_value())

    def charts(self) -> list[str]:
        """The drawing of each chart, as markup."""
        return self.tab.eval_on_selector_all(
            CHART, "frames => frames.map(frame => frame.querySelector('svg')?.innerHTML ?? '')"
        )

    def drawing(self, chart: int = 0) -> list[str]:
        """What a chart shows, without names that differ from one drawing to the next."""
        return (
            self.tab.locator(CHART)
            .nth(chart)
            .evaluate(
                """frame => [...frame.querySelectorAll('svg path, svg text')].map(
                mark => mark.getAttribute('d') ?? mark.textContent)"""
            )
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
        assert self.complaints == [], self.complaints


def wait_until_up(tab, address: str) -> None:
    """Wait for the server's health answer; the client retries refused connections."""
    import urllib.error
    import urllib.request

    for _ in range(1200):
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=60) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError):
            tab.wait_for_timeout(100)
    pytest.fail(f"the app did not come up at {address}")


def nudge(visit: Visit, label: str, key: str = "ArrowRight") -> None:
    """Move a slider with the keyboard."""
    slider = visit.tab.get_by_role("slider", name=label).first
    slider.focus()
    slider.press(key)


def choose(visit: Visit, label: str, option: str) -> None:
    """Pick an option of a select box; open it again where a rerun of the page closed it."""
    from playwright.sync_api import TimeoutError as TooLate

    box = visit.tab.get_by_role("combobox", name=label).first
    wanted = visit.tab.get_by_role("option", name=option, exact=True)
    for _ in range(PATIENCE // 2000):
        box.click()
        for _ in range(20):
            if wanted.count():
                with contextlib.suppress(TooLate):  # it went while it was pressed
                    wanted.click(timeout=2000)
                    return
            visit.tab.wait_for_timeout(100)
        box.press("Escape")
    pytest.fail(f"{label}: no option {option!r}")


@dataclass(frozen=True)
class Page:
    """An address, how many charts it opens with, and something that redraws the first one."""

    address: str
    charts: int
    act: Callable[[Visit], None]


PAGES = {
    "One prompt, 32 rollouts": Page("", 1, lambda visit: press(visit, "next")),
    "Learnability": Page(
        "learnability", 2, lambda visit: nudge(visit, "Spread over prompts", "PageUp")
    ),
    "Gradient signals": Page(
        "gradient_signals", 1, lambda visit: choose(visit, "Count", "Share of groups repaired")
    ),
    "Budget to target": Page("budget", 2, lambda visit: choose(visit, "Metric", "Recall@10")),
    "Sweeps": Page(
        "sweeps?view=compare", 1, lambda visit: choose(visit, "First strategy", "repair_only")
    ),
}
OPENS_WITH = {"Train live": 1, "Sweeps": 0, "Real models": 2, "Claims": 0}
OPENS_WITH["Your rollouts"] = 0
MAPS = int(study("phase-map") is not None)


def press(visit: Visit, key: str) -> None:
    """Click the button with that key once it is enabled."""
    visit.tab.locator(f".st-key-{key} button:enabled").click()


def ended(visit: Visit, server: Server, module: str) -> bool:
    """Wait for the app's worker processes to end."""
    for _ in range(PATIENCE // 100):
        if not server.children(module):
            return True
        visit.tab.wait_for_timeout(100)
    return False


def write(visit: Visit, text: str) -> None:
    """Replace the text of the sweep, as a user would: Ctrl+Enter applies it."""
    box = visit.tab.get_by_label("Sweep (TOML)")
    box.fill(text)
    box.press("Control+Enter")


def upload(visit: Visit, name: str, content: bytes) -> None:
    """Give the page a file, as a user would."""
    field = visit.tab.locator('[data-testid="stFileUploaderDropzoneInput"]').first
    field.set_input_files([{"name": name, "mimeType": "text/csv", "buffer": content}])


GOOD = b"step,prompt,reward\n" + b"".join(
    b"%d,p%d,%d\n" % (step, prompt, rollout == 0 and prompt == 1)
    for step in (1, 2)
    for prompt in range(3)
    for rollout in range(4)
)


EVERY_PAGE = {name: (page.address, page.charts) for name, page in PAGES.items()} | {
    **{f"Step {step} of the story": (f"?step={step}", 1) for step in range(2, 8)},
    "Train live": ("train_live", 1),
    "Groups of a race": ("train_live?part=regimes", 1),
    "How long runs need": ("budget?part=waiting", 2),
    "A group in a table": ("gradient_signals?part=table", 2),
    "Browse": ("sweeps", 0),
    "List of sweeps": ("sweeps?view=sweeps", 0),
    "Start": ("sweeps?view=start", 0),
    "Settings and results": ("sweeps?view=rates", 1),
    "Phase map": ("sweeps?view=map", MAPS),
    "Real models": ("real_models", OPENS_WITH["Real models"]),
    "Learnability of a group": ("learnability?part=group", 3),
    "Costs": ("real_models?part=costs", 1),
    "Cheaper experiments": ("real_models?part=cheaper", 1),
    "Your rollouts": ("your_rollouts?example=yes", 1),
    "Another G": ("your_rollouts?example=yes&part=width", 1),
    "Other strategies": ("your_rollouts?example=yes&part=strategies", 1),
    "One group": ("your_rollouts?example=yes&part=group", 1),
    "A similar world": ("your_rollouts?example=yes&part=world", 0),
    "Plug it in": ("your_rollouts?example=yes&part=plug", 0),
    "Claims": ("claims", 0),
}


def plot_widths(visit: Visit) -> list[float]:
    """Pixels of the plots of the page's charts; panels side by side have no plot of their own."""
    widths: list[float] = visit.tab.locator(
        "svg.marks g.role-frame.root > g > path.background"
    ).evaluate_all(
        "plots => plots.map(plot => plot.getBoundingClientRect().width).filter(wide => wide > 0)"
    )
    return widths


def cut(visit: Visit) -> list[str]:
    """Words of the pictures that reach beyond their picture, by more than a line box does."""
    found: list[str] = visit.tab.evaluate(
        """() => [...document.querySelectorAll('svg.marks')].flatMap(picture => {
            const frame = picture.getBoundingClientRect();
            return [...picture.querySelectorAll('text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.width && (box.left < frame.left - 3 || box.right > frame.right + 3
                    || box.top < frame.top - 5 || box.bottom > frame.bottom + 5);
            }).map(text => text.textContent);
        })"""
    )
    return found


def on_each_other(visit: Visit) -> list[str]:
    """Pairs of words of one picture that lie on each other, by two fifths of a line or more."""
    found: list[str] = visit.tab.evaluate(
        """() => [...document.querySelectorAll('svg.marks')].flatMap(picture => {
            const words = [...picture.querySelectorAll('text')]
                .map(text => [text.textContent, text.getBoundingClientRect(), text])
                .filter(([said, box, text]) => said && box.width
                    && getComputedStyle(text).opacity !== '0');
            return words.flatMap(([said, one], place) => words.slice(place + 1)
                .filter(([, other]) => {
                    const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
                    const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
                    return wide > 2 && high > 0.4 * Math.min(one.height, other.height);
                }).map(([beside]) => `${said} | ${beside}`));
        })"""
    )
    return found


def levels(visit: Visit, unlike: list[str] | None = None) -> list[str]:
    """The levels of the linked picture's rollouts, in order; unlike: wait for others than these."""
    rows = visit.tab.locator("#linked [data-rollout]")
    rows.first.wait_for()
    for _ in range(PATIENCE // 100):
        found = rows.evaluate_all(
            """rows => rows.sort((a, b) => a.dataset.rollout - b.dataset.rollout)
                .map(row => row.getAttribute('aria-valuenow'))"""
        )
        if found != unlike:
            break
        visit.tab.wait_for_timeout(100)
    assert found != unlike
    return found
