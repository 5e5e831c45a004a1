"""Every page renders, and its controls change what it shows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

import workbench.store
from recast import STRATEGIES
from workbench import charts

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "workbench" / "pages"


def stored_runs() -> pl.DataFrame:
    """Three seeds of three strategies that rise at different speeds; one seed never rises."""
    rows = []
    for name, speed, width in (("grpo", 1, 8), ("recast", 2, 2), ("sft", 3, 1)):
        for seed in range(3):
            for step in range(0, 50, 10):
                level = 0.1 if (name, seed) == ("recast", 2) else 0.1 + 0.002 * speed * step
                row = dict.fromkeys(charts.METRICS, level + 0.001 * seed)
                row |= dict.fromkeys(charts.COUNTS, float(width) if step else None)
                row |= {
                    "run": f"{name}-{seed}",
                    "strategy": name,
                    "seed": seed,
                    "tuned": True,
                    "world": "demo",
                    "group": 8,
                    "split": "test",
                    "slice": "all",
                    "step": step,
                    "rollouts": 0 if name == "sft" else step * 64,
                    "updated_rows": step * 8 * width,
                    "optimizer_steps": step,
                    "labels": 0 if name == "grpo" else step * 8,
                    "ceiling_pass_at_1": 0.6,
                    "ceiling_recall_at_10": None,
                }
                rows.append(row)
    return pl.DataFrame(rows)


@pytest.fixture(autouse=True)
def _store(monkeypatch):
    monkeypatch.setattr(workbench.store, "load_or_example", lambda: (stored_runs(), "made-up runs"))


def page(name: str) -> AppTest:
    app = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=60).run()
    assert not app.exception
    return app


def tables(app: AppTest) -> list:
    return [table.value for table in app.dataframe]


def test_the_app_opens_on_learnability():
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not app.exception
    assert "sparse-hit" in app.title[0].value


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
    assert any("sft" in caption.value for caption in app.caption)


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


@pytest.mark.parametrize("empty", [stored_runs().clear(), pl.DataFrame()])
def test_an_empty_store_is_said(monkeypatch, empty):
    monkeypatch.setattr(workbench.store, "load_or_example", lambda: (empty, "nothing"))
    assert "Run a sweep" in page("budget").info[0].value
    assert any("No stored run" in info.value for info in page("gradient_signals").info)


def test_a_damaged_store_is_one_line(monkeypatch):
    def damaged():
        raise workbench.store.StoreError("runs/x.parquet: damaged")

    monkeypatch.setattr(workbench.store, "load_or_example", damaged)
    for name in ("budget", "gradient_signals"):
        assert page(name).error[0].value == "runs/x.parquet: damaged"


def test_every_strategy_has_its_own_look_without_colour():
    assert list(charts.STYLE) == list(STRATEGIES)
    looks = [(tuple(style.dash), style.shape) for style in charts.STYLE.values()]
    assert len(set(looks)) == len(looks)
