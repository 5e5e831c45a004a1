"""Every page in a real, headless Chromium, against a server that the test starts on loopback.

Nothing here sleeps: each step waits for what a user would see.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import planted
import pytest

from workbench.real.saved import packaged

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


@dataclass(frozen=True)
class Server:
    """A running app: its address, its process, its store."""

    address: str
    pid: int
    store: Path

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
        assert self.complaints == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
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
        yield Server(f"http://127.0.0.1:{port}", process.pid, folder / "store")
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
def visit(browser, server: Server, request) -> Iterator[Visit]:
    looks = getattr(request, "param", {})
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | looks)
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
    wait_until_up(tab, server.address)
    yield guest
    context.close()


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
    """Pick an option of a select box."""
    box = visit.tab.get_by_role("combobox", name=label).first
    box.click()
    visit.tab.get_by_role("option", name=option, exact=True).click()


@dataclass(frozen=True)
class Page:
    """An address, how many charts it opens with, and something that redraws the first one."""

    address: str
    charts: int
    act: Callable[[Visit], None]


PAGES = {
    "One prompt, 32 rollouts": Page("", 1, lambda visit: press(visit, "next")),
    "Learnability": Page(
        "learnability", 4, lambda visit: nudge(visit, "Spread over prompts", "PageUp")
    ),
    "Gradient signals": Page(
        "gradient_signals", 3, lambda visit: nudge(visit, "Rollouts per group, G")
    ),
    "Budget to target": Page("budget", 4, lambda visit: choose(visit, "Metric", "Recall@10")),
    "Sweeps": Page(
        "sweeps?view=compare", 1, lambda visit: choose(visit, "First strategy", "repair_only")
    ),
}
OPENS_WITH = {"Train live": 0, "Sweeps": 0, "Real models": len(packaged()), "Claims": 0}
OPENS_WITH["Your rollouts"] = 0


@pytest.mark.parametrize("name", PAGES)
def test_a_page_renders_its_charts_and_a_control_redraws_them(visit: Visit, name: str) -> None:
    page = PAGES[name]
    visit.open(page.address, page.charts)
    visit.healthy()
    visit.changes(lambda: page.act(visit))
    visit.healthy()
    assert len(visit.charts()) == page.charts


def test_the_navigation_leads_to_every_page(visit: Visit) -> None:
    visit.open("", 1)
    links = visit.tab.locator('[data-testid="stSidebarNavLink"]')
    names = [name.strip() for name in links.all_inner_texts()]
    assert set(names) >= {*PAGES, *OPENS_WITH}
    titles: set[str] = set()
    for place, name in enumerate(names):
        links.nth(place).click()
        visit.tab.wait_for_function(
            "seen => !seen.includes(document.querySelector('[data-testid=stMain] h1')?.innerText)",
            arg=sorted(titles),
        )
        if name in {*PAGES, *OPENS_WITH}:
            visit.settled(OPENS_WITH.get(name, PAGES[name].charts if name in PAGES else 0))
        title = visit.tab.locator('[data-testid="stMain"] h1').first.inner_text()
        assert "?" in title
        titles.add(title)
        visit.healthy()


@pytest.mark.parametrize(
    "visit", [{"viewport": {"width": 768, "height": 1000}, "color_scheme": "dark"}], indirect=True
)
@pytest.mark.parametrize("name", PAGES)
def test_a_narrow_dark_window_shows_everything(visit: Visit, name: str) -> None:
    page = PAGES[name]
    visit.open(page.address, page.charts)
    visit.healthy()
    overhang = visit.tab.evaluate(
        """() => {
            const main = document.querySelector('[data-testid=stMain]');
            return main.scrollWidth - main.clientWidth;
        }"""
    )
    assert overhang <= 0
    background = visit.tab.evaluate(
        "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
    )
    assert max(int(part) for part in re.findall(r"\d+", background)[:3]) < 60


def test_a_copied_link_opens_the_same_view_and_back_undoes_a_step(visit: Visit) -> None:
    tree = 0
    visit.open("gradient_signals", 3)
    first = visit.drawing(tree)
    visit.changes(lambda: visit.tab.get_by_role("button", name="Multi-hit").click(), tree)
    visit.tab.wait_for_url("**/gradient_signals?group=*")
    hit, link = visit.drawing(tree), visit.tab.url
    assert hit != first
    visit.changes(visit.tab.go_back, tree)
    assert visit.drawing(tree) == first
    visit.changes(visit.tab.go_forward, tree)
    assert visit.drawing(tree) == hit
    visit.tab.goto("about:blank")
    visit.open(link.removeprefix(f"{visit.server.address}/"), 3)
    assert visit.drawing(tree) == hit
    visit.healthy()


@pytest.mark.drill
@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_linked_and_walked_back_to(visit: Visit, name: str) -> None:
    page = PAGES[name]
    visit.open(page.address, page.charts)
    before, address = visit.drawing(), visit.tab.url
    visit.changes(lambda: page.act(visit))
    visit.tab.wait_for_function("before => location.href !== before", arg=address)
    after, link = visit.drawing(), visit.tab.url
    assert after != before
    visit.changes(visit.tab.go_back)
    assert visit.drawing() == before
    visit.changes(visit.tab.go_forward)
    assert visit.drawing() == after
    visit.tab.goto("about:blank")
    visit.open(link.removeprefix(f"{visit.server.address}/"), page.charts)
    assert visit.drawing() == after
    visit.healthy()


def test_five_questions_lead_a_newcomer_to_the_view_that_answers_each(visit: Visit) -> None:
    visit.open("", 1)
    compare = visit.tab.get_by_role("link", name="When is plain SFT as good?")
    compare.click()
    visit.settled(1)
    assert "strategy_1=sft" in visit.tab.url
    assert visit.tab.locator('[data-testid="stSidebar"] [data-testid="stPageLink"]').count() == 5
    visit.tab.get_by_role("link", name="What does ReCast change?").click()
    visit.tab.get_by_text("target (anchor").first.wait_for()
    visit.healthy()


def test_a_page_that_one_comes_back_to_is_as_it_was_left(visit: Visit) -> None:
    visit.open("learnability?group=8", 4)
    links = visit.tab.locator('[data-testid="stSidebarNavLink"]')
    links.filter(has_text="One prompt").click()
    visit.tab.get_by_role("button", name="Next").wait_for()
    links.filter(has_text="Learnability").click()
    visit.tab.wait_for_url("**/learnability?group=8")
    visit.settled(4)
    visit.healthy()


def test_an_address_with_markup_in_it_stays_text(visit: Visit) -> None:
    visit.tab.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    visit.open("gradient_signals?group=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&width=%3Cb%3E", 3)
    shown = visit.tab.get_by_test_id("stAlert").all_inner_texts()
    assert any("<img src=x onerror" in text for text in shown)
    assert any("<b>" in text and "width" in text for text in shown)
    assert visit.tab.locator("[data-testid=stMain] img").count() == 0
    visit.healthy()


def test_a_picture_and_its_numbers_can_be_taken_away(visit: Visit, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="pictures need vl-convert-python")
    visit.open("gradient_signals", 3)
    begins = {"PNG": b"\x89PNG", "SVG": b"<svg", "CSV": b"strategy,slot,weight"}
    for kind, begin in begins.items():
        with visit.tab.expect_download() as download:
            visit.tab.locator(f".st-key-download-advantages-{kind} button").first.click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.name == f"advantages.{kind.lower()}"
        assert path.read_bytes().startswith(begin)
    visit.healthy()


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


def test_a_race_starts_streams_stops_and_leaves_no_process_when_the_tab_closes(
    visit: Visit, server: Server
) -> None:
    visit.open("train_live?items=256&seeds=1&steps=5000&group=8&all_zero=60", 0)
    press(visit, "start")
    visit.settled(4)
    visit.changes(lambda: None)  # nobody touches it: the next points come in by themselves
    visit.healthy()
    press(visit, "stop")
    visit.tab.locator(".st-key-start button:enabled").wait_for()
    assert "Stopped" in visit.tab.get_by_test_id("stAlert").first.inner_text()
    press(visit, "start")
    visit.settled(4)
    assert len(server.children("workbench.jobs.race_worker")) == 1
    visit.tab.close()
    other = visit.tab.context.new_page()
    other.set_default_timeout(PATIENCE)
    assert ended(Visit(other, server), server, "workbench.jobs.race_worker")


def test_a_race_pauses_goes_on_and_a_killed_worker_is_reported_with_what_it_left(
    visit: Visit, server: Server
) -> None:
    visit.open("train_live?items=256&seeds=1&steps=5000&group=8&all_zero=60", 0)
    press(visit, "start")
    visit.settled(4)
    press(visit, "pause")
    visit.tab.get_by_text("Paused.").wait_for()
    press(visit, "resume")
    visit.changes(lambda: None)
    (worker,) = server.children("workbench.jobs.race_worker")
    os.kill(worker, signal.SIGKILL)
    visit.tab.get_by_text("ended unexpectedly").wait_for()
    visit.tab.locator(".st-key-start button:enabled").wait_for()
    assert len(visit.charts()) == 4
    visit.healthy()


def test_a_race_that_is_over_can_be_kept(visit: Visit, server: Server) -> None:
    visit.open("train_live?items=256&seeds=1&steps=20&group=8&all_zero=60&strategies=sft", 0)
    press(visit, "start")
    visit.tab.get_by_text("All strategies took 20 steps").wait_for()
    press(visit, "keep")
    visit.tab.get_by_text("1 runs are in the store").wait_for()
    assert len(list((server.store / "runs").iterdir())) == 1
    shutil.rmtree(server.store / "runs")
    visit.healthy()


SWEEP = """
strategies = ["sft", "recast"]
seeds = {seeds}
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


def write(visit: Visit, text: str) -> None:
    """Replace the text of the sweep, as a user would: Ctrl+Enter applies it."""
    box = visit.tab.get_by_label("Sweep (TOML)")
    box.fill(text)
    box.press("Control+Enter")


def test_a_sweep_is_checked_started_watched_browsed_and_deleted(
    visit: Visit, server: Server
) -> None:
    visit.open("sweeps?view=start", 0)
    write(visit, SWEEP.format(seeds=0))
    visit.tab.get_by_text("seeds: ").first.wait_for()
    write(visit, SWEEP.format(seeds=2))
    visit.tab.get_by_text("4 runs in 1 cells, 4 of them not yet").wait_for()
    press(visit, "launch")
    visit.tab.get_by_text("4 runs trained").wait_for()
    visit.tab.get_by_text("0 of them not yet").wait_for()
    visit.open("sweeps", 0)
    visit.tab.get_by_text("4 of 4 runs in 1 cells").wait_for()
    table = visit.tab.locator(".st-key-runs .dvn-scroller").first
    table.click(position={"x": 15, "y": 15})  # the box that selects every row
    press(visit, "delete")
    press(visit, "delete-sure")
    visit.tab.get_by_text("4 runs are in the bin").wait_for()
    assert list((server.store / "runs").iterdir()) == []
    press(visit, "undo-delete")
    visit.tab.get_by_text("4 runs are back").wait_for()
    assert len(list((server.store / "runs").iterdir())) == 4
    visit.healthy()


def test_a_log_is_uploaded_and_diagnosed_and_hostile_files_stay_text(
    visit: Visit, tmp_path: Path
) -> None:
    visit.tab.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    visit.open("your_rollouts", 0)
    visit.tab.get_by_role("button", name="Show me an example").click()
    visit.tab.get_by_text("Starved.").wait_for()
    visit.settled(4)
    visit.tab.wait_for_url("**/your_rollouts?example=yes")
    text = "<img src=x onerror=alert(1)>"
    log = planted.as_jsonl(
        [{**row, "task": text, "prompt": text + row["prompt"]} for row in planted.log(steps=4)],
        tmp_path / f"{text}.jsonl",
    )
    with log.open("a") as stream:
        stream.write(f"{text}\n")
    drop = visit.tab.locator('[data-testid="stFileUploader"] input[type="file"]')
    drop.set_input_files(str(log))
    visit.tab.get_by_text("Nothing that is looked for is wrong").wait_for()
    visit.tab.get_by_text("1 of 513 rows").wait_for()
    visit.settled(4)
    nudge(visit, "Learnable groups wanted", "PageUp")
    visit.tab.wait_for_url("**learnable=*")
    assert visit.tab.locator('img[src="x"]').count() == 0
    visit.healthy()
    (tmp_path / "empty.csv").write_bytes(b"")
    drop.set_input_files([str(tmp_path / "empty.csv")])
    visit.tab.get_by_text("and 1 file could not be read").wait_for()
    assert visit.complaints == []


def test_a_claim_is_one_click_away_from_its_rule_and_its_command(visit: Visit) -> None:
    visit.open("claims", 0)
    visit.tab.get_by_role("radio", name="C9").check(force=True)
    visit.tab.get_by_role("heading", name="C9:").wait_for()
    visit.tab.get_by_text("recast claims --claim C9").wait_for()
    assert "claim=C9" in visit.tab.url
    visit.healthy()


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


def test_a_good_upload_is_diagnosed_and_hostile_ones_get_one_line_each(visit: Visit) -> None:
    visit.tab.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    visit.open("your_rollouts", 0)
    upload(visit, "log.csv", GOOD)
    visit.tab.locator(CHART).first.wait_for()
    visit.healthy()
    evil = "<img src=x onerror=alert(1)>.csv"
    for name, content in (
        (evil, b"<script>alert(1)</script>"),
        ("cut.parquet", b"PAR1" + b"\x00" * 40),
        ("deep.json", b"[" * 100_000),
        ("text.csv", b"step,prompt,reward\n1,p,=cmd|' /C calc'!A0\n"),
    ):
        visit.open("your_rollouts", 0)
        upload(visit, name, content)
        said = visit.tab.get_by_test_id("stAlertContentError").first
        said.wait_for()
        assert "\n" not in said.inner_text().strip()
        assert visit.tab.locator("[data-testid=stMain] img").count() == 0
        assert visit.tab.get_by_test_id("stException").count() == 0
    assert visit.complaints == []


@pytest.fixture(scope="module")
def axe() -> Path:
    """The accessibility checker axe-core, fetched once by npm into a folder that git ignores."""
    folder = ROOT / "build" / "axe"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed: it fetches axe-core for this test")
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder)]
        done = subprocess.run([*command, "axe-core@4"], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"axe-core could not be fetched: {done.stderr.strip()[-200:]}")
    return script


EVERY_PAGE = {name: (page.address, page.charts) for name, page in PAGES.items()} | {
    "Train live": ("train_live", 0),
    "Browse": ("sweeps", 0),
    "Start": ("sweeps?view=start", 0),
    "Phase map": ("sweeps?view=map", 0),
    "Real models": ("real_models", OPENS_WITH["Real models"]),
    "Your rollouts": ("your_rollouts?example=yes", 4),
    "Claims": ("claims", 0),
}


@pytest.mark.drill
@pytest.mark.parametrize(
    "visit", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=str
)
@pytest.mark.parametrize("name", EVERY_PAGE)
def test_axe_finds_nothing_serious(visit: Visit, axe: Path, name: str) -> None:
    visit.open(*EVERY_PAGE[name])
    visit.tab.add_script_tag(path=str(axe))
    found = visit.tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.drill
@pytest.mark.parametrize("name", EVERY_PAGE)
def test_the_keyboard_reaches_every_control_and_every_download(visit: Visit, name: str) -> None:
    visit.open(*EVERY_PAGE[name])
    waiting = visit.tab.locator('[data-testid="stSkeleton"]')
    waiting.first.wait_for(state="detached")
    controls = visit.tab.evaluate(
        """() => {
            const main = document.querySelector('[data-testid=stMain]');
            const kinds = 'button, input, textarea, select, a[href], summary, [role=slider]';
            const found = [...main.querySelectorAll(kinds)].filter(one =>
                !one.disabled && one.tabIndex >= 0 && one.type !== 'radio' && one.role !== 'radio'
                && one.checkVisibility({visibilityProperty: true, opacityProperty: true}));
            found.forEach((one, place) => { one.dataset.place = place; });
            return found.map(one => one.outerHTML.slice(0, 160));
        }"""
    )
    radios = visit.tab.locator('[data-testid="stMain"] input[type=radio]')
    assert controls or radios.count()
    reached: set[int] = set()
    visit.tab.evaluate("document.querySelector('[data-testid=stMain] h1').focus()")
    for _ in range(3 * len(controls) + 60):
        visit.tab.keyboard.press("Tab")
        place = visit.tab.evaluate("document.activeElement?.dataset?.place ?? null")
        if place is not None:
            reached.add(int(place))
        if len(reached) == len(controls):
            break
    missed = [html for place, html in enumerate(controls) if place not in reached]
    assert missed == []
    if radios.count():
        radios.first.focus()
        assert visit.tab.evaluate("document.activeElement.type") == "radio"
