"""Stores that a page does not expect, and two tabs on one store, in the browser."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from browsing import EVERY_PAGE, IDLE, PATIENCE, Server, Visit, plot_widths, press
from opened import made_up_runs

from recast.ledger import RunRecord
from workbench.store.files import sha256
from workbench.store.runs import Store

pytestmark = [pytest.mark.browser, pytest.mark.drill]
SWITCHED = (
    *("budget", "gradient_signals", "real_models", "train_live", "claims", "sweeps"),
    *(f"sweeps?view={view}" for view in ("compare", "rates", "map")),
)
"""Pages with a box that chooses whose data they show."""
NARROW = (
    "Budget to target",
    "Learnability",
    "Gradient signals",
    "Phase map",
    "Real models",
    "Your rollouts",
)


def key_of(record: RunRecord) -> str:
    """A name as runs have them."""
    return sha256(f"{record.config['strategy']} {record.config['seed']}".encode())[:20]


def filled(folder: Path, world: str = "demo", **names: str) -> Path:
    """A store of made-up runs of that world. names: strategies, by what they are called instead."""
    store = Store(folder).prepare()
    for record in made_up_runs().values():
        told = {"world": world, "strategy": names.get(record.config["strategy"], "sft")}
        config = record.config | (told if names else {"world": world})
        store.write(key_of(record), RunRecord(config, record.rows, record.world))
    return folder


def of_one_family(folder: Path) -> Path:
    """Two strategies of one family, whose names and world are markup; a file of it is damaged."""
    evil = "<img src=x onerror=alert(1)> $a_b$ *c* [d](http://e)"
    filled(folder, evil, grpo="repair=anchor, credit=grpo", recast="recast", sft="repair_only")
    damaged = key_of(made_up_runs()["sft-0"])
    next(iter(folder.glob(f"runs/{damaged}/*.parquet"))).write_bytes(b"junk")
    return folder


def of_version(folder: Path, version: int) -> Path:
    """A store whose runs are all named as of another schema."""
    for file in filled(folder).glob("runs/*/*.parquet"):
        file.rename(file.with_name(file.name.replace(".v2.", f".v{version}.")))
    return folder


STORES = {
    "nothing": lambda folder: Store(folder).prepare(),
    "models": lambda folder: filled(folder, "lm:office"),
    "later": lambda folder: of_version(folder, 9),
    "odd *one* $x$ `y` <b>": of_one_family,
}


@pytest.mark.parametrize("kind", STORES)
def test_an_odd_store_leaves_no_page_without_an_answer(
    visit: Visit, server: Server, kind: str
) -> None:
    folder = server.store.parent / kind
    STORES[kind](folder)
    try:
        for path in SWITCHED:
            address = f"{path}{'&' if '?' in path else '?'}data={quote(kind)}"
            visit.tab.goto(f"{server.address}/{address}", wait_until="domcontentloaded")
            visit.tab.wait_for_selector('[data-testid="stMain"] h1')
            visit.tab.wait_for_selector(IDLE)
            visit.length()  # once it stands still: what is left half drawn complains
            assert visit.tab.locator('[data-testid="stMain"] :is(img, b)').count() == 0
            visit.healthy()
    finally:
        shutil.rmtree(folder)


def test_ticks_do_not_pass_to_other_runs_and_a_lone_rate_is_never_called_tuned(
    visit: Visit, server: Server, tmp_path: Path
) -> None:
    filled(server.store)
    visit.open("sweeps", 0)
    visit.tab.get_by_text("9 of 9 runs in 1 cell.").wait_for()
    with visit.tab.expect_download() as download:
        press(visit, "runs-csv")
    download.value.save_as(tmp_path / "runs.csv")
    runs = pl.read_csv(tmp_path / "runs.csv")
    assert runs["tuned"].null_count() == runs.height == 9
    table = visit.tab.locator(".st-key-runs .dvn-scroller").first
    for row in range(3):
        table.click(position={"x": 15, "y": 52 + 35 * row})
    visit.tab.get_by_role("heading", name="How did these 3 runs go?").wait_for()
    press(visit, "delete")
    press(visit, "delete-sure")
    visit.tab.get_by_text("6 of 6 runs in 1 cell.").wait_for()
    visit.tab.get_by_text("Tick runs for their curves").wait_for()
    assert visit.tab.locator(".st-key-delete button:disabled").count() == 1
    visit.healthy()
    for address, said in (
        ("budget", "One learning rate was tried for each, so none was chosen"),
        ("sweeps?view=compare", "the only ones tried, so none is tuned"),
    ):
        visit.open(address, 2 if address == "budget" else 1)
        visit.tab.get_by_text(said).wait_for()
        assert visit.tab.get_by_text("best on").count() == 0
    shutil.rmtree(server.store / "runs")


def test_what_one_tab_deletes_the_other_can_no_longer_delete_and_is_told(
    visit: Visit, server: Server
) -> None:
    filled(server.store)
    other = visit.tab.context.new_page()
    other.set_default_timeout(PATIENCE)
    tabs = [visit, Visit(other, server)]
    for one in tabs:
        one.open("sweeps", 0)
        one.tab.get_by_text("9 of 9 runs in 1 cell.").wait_for()
        table = one.tab.locator(".st-key-runs .dvn-scroller").first
        table.click(position={"x": 15, "y": 15})  # the box that selects every row
        one.tab.get_by_role("heading", name="How did these 9 runs go?").wait_for()
    press(visit, "delete")
    press(tabs[1], "delete")
    press(visit, "delete-sure")
    visit.tab.get_by_text("9 runs are in the bin").wait_for()
    press(tabs[1], "delete-sure")
    other.get_by_text("9 were no longer in the store").wait_for()
    press(visit, "undo-delete")
    visit.tab.get_by_text("9 runs are back").wait_for()
    visit.healthy()
    tabs[1].healthy()
    shutil.rmtree(server.store / "runs")


@pytest.mark.parametrize("visit", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_a_phone_shows_wide_pictures_without_the_page_scrolling_sideways(visit: Visit) -> None:
    for name in NARROW:
        visit.open(*EVERY_PAGE[name])
        visit.healthy()
        assert min(plot_widths(visit), default=800) >= 200, name  # the legend leaves room
        overhang = visit.tab.evaluate(
            """() => {
                const main = document.querySelector('[data-testid=stMain]');
                return main.scrollWidth - main.clientWidth;
            }"""
        )
        assert overhang <= 0, name
