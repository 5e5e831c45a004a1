"""Pictures that a hand moves: they redraw in the browser, and say what they were moved to."""

from __future__ import annotations

import pytest
from browsing import Visit, levels

pytestmark = pytest.mark.browser


def test_hovering_a_rollout_reads_every_strategy_and_a_choice_colours_the_branches(
    visit: Visit,
) -> None:
    visit.open("gradient_signals?group=0*0_0*1_1*3_0*2&strategies=grpo&strategies=recast", 1)
    levels(visit)
    visit.tab.locator('#linked [data-rollout="3"] .handle').hover()
    said = visit.tab.locator("#linked-said")
    visit.tab.get_by_text("R3 finds the target").wait_for()
    assert "grpo 1.5" in said.inner_text()
    assert "recast 1" in said.inner_text()
    drawn = visit.tab.locator("#linked .bar").evaluate_all(
        "bars => bars.map(bar => [bar.closest('.row')?.dataset.rollout === '3',"
        " getComputedStyle(bar).stroke !== 'none'])"
    )
    assert all(lit == here for here, lit in drawn)  # every strategy's bar of R3, and no other
    assert [here for here, _ in drawn].count(True) == 2
    before = strokes(visit)
    visit.tab.locator("#linked .head").filter(has_text="grpo").first.click()
    visit.tab.wait_for_url("**lit=grpo*")
    assert strokes(visit) != before
    visit.healthy()


def test_a_rollout_is_dragged_to_another_level_and_the_bars_follow_before_the_server_does(
    visit: Visit,
) -> None:
    visit.open("gradient_signals?group=0*0_0*1_0*0_0*2&strategies=grpo&strategies=recast", 1)
    assert levels(visit) == ["0", "1", "0", "2"]
    assert visit.tab.locator('#linked [data-bar="grpo"]').count() == 0
    calls: list[str] = []
    visit.tab.on("websocket", lambda _: calls.append("new"))
    handle = visit.tab.locator('#linked [data-rollout="4"] .handle').bounding_box()
    end = visit.tab.locator("#linked .grid").last.bounding_box()
    visit.tab.mouse.move(handle["x"] + 3, handle["y"] + 3)
    visit.tab.mouse.down()
    visit.tab.mouse.move(end["x"], handle["y"] + 3, steps=4)
    # The button is still held, so nothing has been sent: the browser itself has redrawn.
    assert levels(visit)[3] == "3"
    assert visit.tab.locator('#linked [data-bar="grpo"]').count() == 4
    assert "group=0*0_0*1_0*0_0*2" in visit.tab.url
    assert visit.tab.locator("#linked").get_attribute("data-milliseconds")
    visit.tab.mouse.up()
    visit.tab.wait_for_url("**group=0*0_0*1_0*0_1*3*")
    visit.healthy()


def test_the_keyboard_moves_a_rollout_too(visit: Visit) -> None:
    visit.open("gradient_signals?group=0*0_0*1_0*0_0*2&strategies=recast", 1)
    levels(visit)
    visit.tab.locator('#linked [data-rollout="1"]').focus()
    visit.tab.keyboard.press("ArrowRight")
    visit.tab.wait_for_url("**group=0*1_0*1_0*0_0*2*")
    assert levels(visit)[0] == "1"
    visit.healthy()


def test_the_recorded_race_plays_on_arrival_and_can_be_scrubbed(visit: Visit) -> None:
    visit.open("train_live", 1)
    visit.tab.wait_for_function(
        """() => [...document.querySelectorAll('*')].some(host => {
            const root = host.shadowRoot?.querySelector('#growing');
            return root && Number(root.dataset.step) > 0;
        })"""
    )
    scrub = visit.tab.get_by_role("slider", name="Optimizer step of the trees")
    scrub.focus()
    scrub.press("Home")
    trees = visit.tab.locator("#growing")
    assert trees.get_attribute("data-step") == "0"
    begin = trees.inner_html()
    scrub.press("End")
    assert int(trees.get_attribute("data-step") or 0) > 0
    assert trees.inner_html() != begin
    assert trees.locator("svg").count() == 4
    visit.healthy()


def strokes(visit: Visit) -> list[str]:
    """The colours of the branches."""
    return visit.tab.locator("#linked .branch").evaluate_all(
        "marks => marks.map(mark => mark.getAttribute('stroke'))"
    )
