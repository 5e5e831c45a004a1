"""Frames and charts of the theory, and the Learnability page as a reader uses it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from recast import STRATEGIES
from workbench import charts
from workbench.theory import frames as theory
from workbench.theory.regimes import regime_frame

PAGE = Path(__file__).parents[3] / "workbench" / "pages" / "learnability.py"
NAMES = list(STRATEGIES)

UNDEFINED = {"rl_zvp", "rank_penalty", "recast_half_repair", "recast_prefix_mask"} | {
    *("lens", "sibling", "step_aligned", "gdpo", "gbpo", "prefix_hint", "reinforce_ada", "replay")
}


@pytest.fixture(scope="module")
def curves() -> pl.DataFrame:
    return theory.weight_frame(NAMES, 0.0054, 16)


def test_every_strategy_is_drawn_or_named_with_a_reason(curves):
    missing = theory.left_out(NAMES, 16)
    assert set(missing) == UNDEFINED
    assert set(curves["strategy"]) | set(missing) == set(NAMES)
    assert "needs G >= 8" in theory.left_out(["pods"], 4)["pods"]
    assert set(theory.summary_frame(NAMES, 0.0054, 16)["strategy"]) == set(curves["strategy"])


def test_scaled_curves_meet_where_they_should(curves):
    for (name,), rows in curves.group_by("strategy"):
        here = rows.filter(pl.col("p") == 0.0054)
        assert here["w_scaled"].to_list() == [1.0], name
        assert rows["f_scaled"][0] == 0, name
        assert rows["f_scaled"][-1] == pytest.approx(1), name
        assert (rows["f"].diff().drop_nulls() >= -1e-9).all(), name


def test_a_wider_search_costs_a_repaired_group_its_whole_width():
    reach = theory.reach_frame(["grpo", "recast", "reinforce", "sft"], 0.0054, 0.89, [1, 8, 32])
    assert set(reach["strategy"]) == {"grpo", "recast", "sft"}
    row = {(r["strategy"], r["group"]): r for r in reach.to_dicts()}
    assert row["recast", 32]["cost"] == pytest.approx(32)
    assert row["grpo", 1]["cost"] is None
    assert row["grpo", 32]["learnable"] == pytest.approx(0.15, abs=0.005)
    assert row["sft", 8]["learnable"] == pytest.approx(1)


def test_counts_leave_out_what_has_none_per_group():
    counts = theory.count_frame(NAMES, 0.0054, 0.89, 32)
    looking = {"grpo_trl_batch", "reinforce", "reinforce_pp", "gpg", "a_grae", "ha_dw"}
    looking |= {"reinforce_pp_baseline", "spo"}
    assert set(counts["strategy"]) == set(NAMES) - looking - UNDEFINED
    square = dict(counts.select("strategy", "square").iter_rows())
    assert square["recast"] == pytest.approx(2, abs=0.01)
    assert square["grpo"] == pytest.approx(4.67, abs=0.05)
    assert square["repair_only"] == pytest.approx(31, abs=0.05)


def test_charts_ask_questions_and_say_what_they_show(curves):
    chosen = curves.filter(pl.col("strategy").is_in(["grpo", "sft"]))
    reach = theory.reach_frame(["grpo", "sft"], 0.01, 0.5, [2, 8])
    for chart in (
        charts.weights(chosen, 0.0054, "shape"),
        charts.weights(chosen, 0.0054, "shipped"),
        charts.what_width_buys(reach),
        charts.signal_counts(theory.count_frame(["grpo", "sft"], 0.01, 0.5, 8)),
        charts.regimes_by_group(regime_frame(0.01, 0.5, [2, 8])),
    ):
        spec = chart.to_dict()
        assert spec["title"].endswith("?")
        assert len(spec["description"]) > 60


def page() -> AppTest:
    app = AppTest.from_file(str(PAGE), default_timeout=120)
    app.session_state["formulas"] = True  # unfolded
    assert not app.run().exception
    return app


def summary(app: AppTest) -> pl.DataFrame:
    found = next(t.value for t in app.dataframe if "divided_by" in t.value.columns)
    return pl.from_pandas(found)


def test_the_page_shows_weights_of_the_chosen_strategies_with_denominators():
    app = page()
    app.multiselect(key="strategies").set_value(["grpo", "sft", "rl_zvp"]).run()
    assert not app.exception
    table = summary(app)
    assert table["strategy"].to_list() == ["grpo", "sft"]
    assert table["divided_by"].to_list() == ["32 (rollouts)", "1 (a sum per prompt)"]
    assert table["w"][0] == pytest.approx(0.0283, abs=1e-4)
    assert any("rl_zvp" in c.value and "entropy" in c.value for c in app.caption)


def test_without_strategies_the_page_asks_for_one():
    app = page()
    app.multiselect(key="strategies").set_value([]).run()
    assert not app.exception
    assert "at least one" in app.info[0].value


def test_strategies_that_look_at_the_batch_have_weights_but_no_counts():
    app = page()
    app.multiselect(key="strategies").set_value(["reinforce"]).run()
    assert not app.exception
    assert summary(app)["strategy"].to_list() == ["reinforce"]
    app.session_state["part"] = "group"
    app.run()
    assert not app.exception
    assert any("whole batch" in info.value for info in app.info)


def test_counted_hits_are_fitted_and_move_the_sliders():
    app = page()
    app.text_area(key="hits").set_value(" ".join(["0"] * 60 + ["1"] * 30 + ["4"] * 10)).run()
    assert not app.exception
    app.button(key="use_fit").click().run()
    assert not app.exception
    assert app.slider(key="hit_probability").value == pytest.approx(70 / 32, abs=0.05)


@pytest.mark.parametrize(
    ("typed", "message"), [("0 one 2", "is not a whole number"), ("99", "99 hits of 32")]
)
def test_hits_that_cannot_be_are_one_line(typed, message):
    app = page()
    app.text_area(key="hits").set_value(typed).run()
    assert not app.exception
    assert message in app.error[0].value.replace("\\", "")
