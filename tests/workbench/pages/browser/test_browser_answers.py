"""What the evidence pages say, read in a real browser as a visitor reads it."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from browsing import Visit, choose

from workbench.analysis.compare import Side, compare
from workbench.analysis.example import packaged_example
from workbench.charts.efficiency import PAPER_RATIO

pytestmark = [pytest.mark.browser, pytest.mark.drill]


def read(visit: Visit, address: str, charts: int) -> str:
    """The text of a page's main part."""
    visit.open(address, charts)
    return visit.tab.get_by_test_id("stMain").inner_text()


def test_the_evidence_pages_say_what_they_show(visit: Visit) -> None:
    table = compare(packaged_example()[0], Side("recast", {}), Side("sft", {}))
    area = table.filter(metric="area").row(0, named=True)
    compared = read(visit, "sweeps?view=compare&strategy_0=recast&strategy_1=sft", 1)
    assert f"{area['difference']:+.4f}".replace("0.", ".") in compared
    assert f"p {area['p_corrected']:.3f}".replace("0.", ".") in compared
    real = read(visit, "real_models", 2)
    assert "did harm" not in real
    assert "seeds" in real.partition("Is the model better?")[0]
    budget = read(visit, "budget", 2)
    said = re.search("Curves and targets are measured on ([0-9,]+) test users, the answer", budget)
    curve = packaged_example()[0].filter(pl.col("step") == 0, split="test", slice="all")
    assert said is not None
    assert {said[1]} == {f"{users:,.0f}" for users in curve["prompts"].to_list()}
    costs = read(visit, "real_models?part=costs", 1)
    assert "grpo / recast, prompt shared, G = 32" in costs
    assert f"At the paper's G = 32, where it reports {PAPER_RATIO} x" in costs
    assert "G = 128" not in costs  # its larger ratio stands beside no figure of the paper
    claims = read(visit, "claims", 0)
    assert "not measured" not in claims
    assert "generation" in claims
    visit.healthy()


def test_rates_chosen_for_another_metric_are_said_and_redraw_the_curves(visit: Visit) -> None:
    text = read(visit, "budget?metric=pass_at_1", 2)
    assert "best on validation users by: Pass@1, sampled at T = 1" in text
    assert "would have chosen" not in text
    visit.changes(lambda: choose(visit, "Rates chosen for", "Recall@10"))
    visit.tab.get_by_text("The metric that is drawn would have chosen: ").wait_for()
    visit.tab.get_by_text("best on validation users by: Recall@10").wait_for()
    visit.tab.wait_for_url("**tune=recall_at_10*")
    visit.healthy()


def test_every_page_has_one_weight_for_a_supervised_target(visit: Visit, tmp_path: Path) -> None:
    weights = []
    for address, picture in (
        ("gradient_signals?part=table&strategies=sft&strategies=grpo_sft", "advantages"),
        ("your_rollouts?example=yes&part=group&strategies=sft&strategies=grpo_sft", "one-group"),
    ):
        read(visit, address, 2 if picture == "advantages" else 1)
        with visit.tab.expect_download() as download:
            visit.tab.locator(f".st-key-download-{picture}-CSV button").first.click()
        download.value.save_as(tmp_path / picture)
        table = pl.read_csv(tmp_path / picture).filter(pl.col("slot") == "target")
        weights.append(dict(table.select("strategy", "weight").iter_rows()))
    assert weights[0] == weights[1]
    assert set(weights[0]) == {"sft", "grpo_sft"}
    visit.healthy()


def test_packaged_runs_offer_no_deletion(visit: Visit) -> None:
    read(visit, "sweeps?data=packaged", 0)
    live = visit.tab.locator("button:enabled", has_text="Delete")
    assert live.count() == 0


@pytest.mark.parametrize("visit", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_what_scrolls_on_a_phone_can_be_reached_by_keyboard(visit: Visit, axe) -> None:
    visit.open("learnability", 2)
    reached = """() => {
        const wide = [...document.querySelectorAll('[data-testid=stFullScreenFrame]')]
            .filter(one => one.querySelector('svg.marks') && one.scrollWidth > one.clientWidth);
        return wide.length === 2 && wide.every(one => one.tabIndex === 0);
    }"""
    visit.tab.wait_for_function(reached)
    visit.tab.add_script_tag(path=str(axe))
    found = visit.tab.evaluate("axe.run(document, {runOnly: ['scrollable-region-focusable']})")
    assert found["violations"] == []
