"""Every page renders, and its controls change what it shows."""

from __future__ import annotations

import ast
import shutil

import pytest
import streamlit as st
from opened import PAGES, ROOT, made_up_runs, page, tables
from streamlit.testing.v1 import AppTest

import workbench.analysis.example
from recast import STRATEGIES
from recast.ledger import RunRecord
from workbench import charts
from workbench.pages import navigation, stored
from workbench.store.runs import Store
from workbench.studies.packaged import packaged

pytestmark = pytest.mark.usefixtures("store_of_full")


@pytest.mark.parametrize("name", navigation.PAGES)
def test_a_page_has_no_text_on_a_line_of_its_own_which_streamlit_would_show(name):
    body = ast.parse((PAGES / f"{name}.py").read_text()).body
    assert [line.lineno for line in body[1:] if is_text(line)] == []


def is_text(line):
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


def test_the_app_opens_on_the_story():
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not app.exception
    assert "32 rollouts" in app.title[0].value


@pytest.mark.parametrize(
    ("name", "studies"),
    [
        ("home", ("weight_frame", "reach_frame", "count_frame", "summary_frame")),
        ("learnability", ("reach_frame", "count_frame", "summary_frame")),
    ],
)
def test_a_first_screen_waits_for_no_exact_study_that_it_does_not_show(monkeypatch, name, studies):
    def enumerated(*_: object) -> None:
        raise AssertionError("an exact study before the first picture")

    for study in studies:
        monkeypatch.setattr(f"workbench.theory.frames.{study}", enumerated)
    st.cache_data.clear()
    st.cache_resource.clear()
    app = page(name)
    assert app.get("vega_lite_chart")


def test_the_papers_point_is_where_the_page_starts():
    shares = [float(metric.value.rstrip("%")) for metric in page("learnability").metric]
    assert shares[0] == pytest.approx(85, abs=0.5)
    assert shares[1] == pytest.approx(13, abs=1)


def test_a_higher_hit_probability_leaves_fewer_all_zero_groups():
    app = page("learnability")
    before = app.metric[0].value
    app.slider(key="hit_probability").set_value(20.0).run()
    assert not app.exception
    assert float(app.metric[0].value.rstrip("%")) < float(before.rstrip("%"))


def test_a_spread_that_no_beta_has_is_cut_and_said():
    app = page("learnability")
    app.slider(key="hit_probability").set_value(50.0)
    app.slider(key="cv").set_value(3.0).run()
    assert not app.exception
    assert "CV stays below 1.00" in app.info[0].value


def test_an_all_zero_group_gets_an_anchor_and_a_group_of_hits_none():
    app = page("gradient_signals")

    def recast_row() -> dict:
        summary = next(t for t in tables(app) if "anchor slot" in t.columns)
        return summary[summary["strategy"] == "recast"].iloc[0].to_dict()

    app.slider(key="hit_probability").set_value(0.0).run()
    assert 1 <= recast_row()["anchor slot"] <= 8
    assert recast_row()["update width"] == 2
    app.slider(key="hit_probability").set_value(100.0).run()
    assert not app.exception
    assert recast_row()["update width"] == 0


def test_resample_draws_another_group():
    app = page("gradient_signals")
    app.button(key="resample").click().run()
    assert not app.exception
    assert app.session_state["draw"] == 1


def test_the_budget_page_counts_the_run_that_never_reaches():
    app = page("budget")
    table = next(t for t in tables(app) if "never_reached" in t.columns)
    assert set(table["strategy"]) == {"grpo", "recast"}  # sft samples no rollouts
    assert table.set_index("strategy").loc["recast", "never_reached"] == 1
    picture = next(
        chart for chart in app.get("vega_lite_chart") if "after the same budget" in str(chart.proto)
    )
    assert "sft" in str(picture.proto)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("updated_rows", {"grpo", "recast", "sft"}),
        ("optimizer_steps", {"grpo", "recast", "sft"}),
        ("labels", {"recast", "sft"}),
    ],
)
def test_a_strategy_is_drawn_where_it_spends_something(axis, expected):
    app = page("budget")
    app.selectbox(key="axis").set_value(axis).run()
    assert not app.exception
    assert set(tables(app)[0]["strategy"]) == expected


def test_a_lower_target_costs_less():
    app = page("budget")

    def cost() -> float:
        table = next(t for t in tables(app) if "never_reached" in t.columns)
        return table.set_index("strategy").loc["recast", "median"]

    before = cost()
    app.slider[0].set_value(0.12).run()
    assert not app.exception
    assert cost() < before


@pytest.mark.parametrize("metric", list(charts.METRICS))
def test_every_metric_renders(metric):
    app = page("budget")
    app.selectbox(key="metric").set_value(metric).run()
    assert not app.exception


def test_an_empty_store_shows_the_example_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("RECAST_STORE", str(tmp_path / "nothing"))
    assert any("packaged example" in caption.value for caption in page("budget").caption)
    assert any("packaged example" in caption.value for caption in page("gradient_signals").caption)


def test_without_any_run_the_pages_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("RECAST_STORE", str(tmp_path / "nothing"))
    monkeypatch.setattr(workbench.analysis.example, "EXAMPLE", tmp_path / "no-example.parquet")
    stored._load.clear()
    stored.packaged_runs.clear()
    try:
        assert "Run a sweep" in page("budget").info[0].value
        assert any("No stored run" in info.value for info in page("gradient_signals").info)
    finally:
        stored._load.clear()
        stored.packaged_runs.clear()


def test_a_damaged_run_is_named_and_the_others_are_shown(monkeypatch, tmp_path, full_store):
    copy = shutil.copytree(full_store, tmp_path / "copy")
    monkeypatch.setenv("RECAST_STORE", str(copy))
    page("budget")
    victim = sorted((copy / "runs").glob("*/*.parquet"))[0]
    victim.write_bytes(victim.read_bytes()[:-100])
    for name in ("budget", "gradient_signals"):
        said = [line.value.replace("\\", "") for line in page(name).caption]
        assert any(str(victim) in line and "\n" not in line for line in said)


def test_a_run_that_is_added_shows_without_a_restart(monkeypatch, tmp_path, full_store):
    copy = shutil.copytree(full_store, tmp_path / "copy")
    monkeypatch.setenv("RECAST_STORE", str(copy))
    app = page("budget")
    assert "(9 runs)" in app.caption[0].value.replace("\\", "")
    record = made_up_runs()["grpo-0"]
    Store(copy).write("more", RunRecord({**record.config, "seed": 9}, record.rows, record.world))
    app.run()
    assert "(10 runs)" in app.caption[0].value.replace("\\", "")


def test_the_claims_page_shows_what_the_package_ships_with_where_it_comes_from():
    app = page("claims")
    shipped = packaged("claims")
    assert shipped is not None
    assert tables(app)[0].drop(columns=["beside"]).fillna("").to_dict("list") == {
        name: shipped.tables["claims"][name].to_list()
        for name in tables(app)[0].columns
        if name != "beside"
    }
    assert "not measured" not in set(tables(app)[0]["verdict"])
    said = " ".join(one.value for one in app.caption)
    assert f"generation {shipped.generation}" in said
    assert ("earlier generation" in said) == (not shipped.current)


def test_the_claims_page_says_what_to_run_when_a_store_holds_nothing():
    app = AppTest.from_file(str(PAGES / "claims.py"), default_timeout=60)
    app.query_params["data"] = "store"
    app.run()
    assert not app.exception
    assert "no testable claim is measured" in app.info[0].value
    assert set(tables(app)[0]["verdict"]) == {"not measured", "shown, not judged"}
    assert set(tables(app)[0]["claim"]) == {f"C{i}" for i in range(1, 13)}


def test_every_strategy_of_the_registry_can_be_put_under_the_microscope():
    app = page("gradient_signals")
    app.multiselect(key="strategies").set_value(list(STRATEGIES)).run()
    assert not app.exception
    summary = next(t for t in tables(app) if "anchor slot" in t.columns)
    assert set(summary["strategy"]) | {w.value.split(" ")[0] for w in app.warning} >= set(
        STRATEGIES
    )


def test_a_group_in_the_address_is_the_group_that_is_shown():
    app = AppTest.from_file(str(PAGES / "gradient_signals.py"), default_timeout=60)
    app.query_params["group"] = "0*0_1*3_0*2"
    app.run()
    summary = next(t for t in tables(app) if "anchor slot" in t.columns)
    assert summary.set_index("strategy").loc["recast", "rows reaching the actor"] == "2, 3"


def test_the_race_page_plays_a_recorded_race_until_one_is_started():
    app = page("train_live")
    said = " ".join(one.value for one in app.caption)
    assert "A recorded race of the package plays" in said
    assert "Budget to target" in said  # whether the packaged runs say the same
    assert app.button(key="start").label == "Start a race"
