"""The page of sweeps: its views, filters, pages of runs, the phase map, a faulty sweep."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from opened import PAGES, page, tables
from streamlit.testing.v1 import AppTest

from recast.ledger import RunRecord
from workbench import charts
from workbench.pages import browse
from workbench.pages.comparison import first_choice
from workbench.store.runs import Store

pytestmark = pytest.mark.usefixtures("store_of_full")


@pytest.mark.parametrize("view", ["browse", "start", "compare", "map"])
def test_the_sweeps_page_shows_each_view_of_a_full_store(view):
    app = AppTest.from_file(str(PAGES / "sweeps.py"), default_timeout=60)
    app.query_params["view"] = view
    app.run()
    assert not app.exception
    assert not app.error
    if view == "browse":
        assert any("9 of 9 runs" in caption.value for caption in app.caption)


def test_a_filter_of_the_sweeps_page_keeps_what_it_names():
    app = page("sweeps")
    app.multiselect(key="strategies").set_value(["sft"]).run()
    assert not app.exception
    assert set(tables(app)[0]["strategy"]) == {"sft"}


def test_many_runs_come_in_pages_in_the_wanted_order_and_the_csv_holds_them_all(monkeypatch):
    monkeypatch.setattr(browse, "ROWS", 4)
    app = page("sweeps")
    assert tables(app)[0].shape[0] == 4
    app.selectbox(key="order").set_value("pass_at_1").run()
    app.toggle(key="falling").set_value(True).run()
    first = tables(app)[0]
    app.number_input(key="page").set_value(3).run()
    assert not app.exception
    last = tables(app)[0]
    assert last.shape[0] == 1
    assert first["pass_at_1"].is_monotonic_decreasing
    assert last["pass_at_1"].iloc[0] < first["pass_at_1"].min()
    assert dict(app.query_params) == {"order": "pass_at_1", "falling": "yes", "page": "3"}


def test_a_filter_that_leaves_fewer_pages_shows_the_last_of_them(monkeypatch):
    monkeypatch.setattr(browse, "ROWS", 4)
    app = page("sweeps")
    app.number_input(key="page").set_value(3).run()
    app.multiselect(key="strategies").set_value(["sft"]).run()
    assert not app.exception
    assert app.number_input(key="page").value == 1
    assert set(tables(app)[0]["strategy"]) == {"sft"}


@pytest.fixture(scope="module")
def grid_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strategies, twelve seeds, noise x sparsity x G: recast wins at little noise, nobody at
    much of it."""
    store = Store(tmp_path_factory.mktemp("grid")).prepare()
    cells = product((0.1, 0.4), (0.7, 0.9), (8, 64))
    for place, (noise, zero, group) in enumerate(cells):
        for name, seed in product(("grpo", "recast"), range(12)):
            jitter = 0.01 * ((seed * 7 + (name == "recast") * 3) % 5)
            lead = 0.2 if name == "recast" and noise == 0.1 else 0.0
            row = {"split": "test", "slice": "all", "step": 10, "rollouts": 80, "labels": 0}
            row |= dict.fromkeys(charts.METRICS, 0.3 + jitter + lead)
            config = {
                "strategy": name,
                "seed": seed,
                "lr": 0.01,
                "cell": f"c{place}",
                "world": "demo",
                "group": group,
                "world_spec": {"noise": noise},
                "start_spec": {"all_zero": zero},
                "train_spec": {"group": group},
            }
            rows = (row | {"step": 0}, row, row | {"split": "validation"})
            store.write(f"{name}{place}{seed}", RunRecord(config, rows, {}))
    return store.root


def test_the_phase_map_names_a_winner_where_there_is_one(monkeypatch, grid_store):
    monkeypatch.setenv("RECAST_STORE", str(grid_store))
    app = AppTest.from_file(str(PAGES / "sweeps.py"), default_timeout=60)
    app.query_params.update({"view": "map", "across": "world.noise"})
    app.run()
    assert not app.exception
    table = tables(app)[0]
    assert len(table) == 8
    assert set(table.loc[table["world.noise"] == 0.1, "winner"]) == {"recast"}
    assert set(table.loc[table["world.noise"] == 0.4, "winner"]) == {"none"}
    said = " ".join(one.value for one in app.caption)
    pairs = int(table["seeds"].min())
    assert f"corrected over 8 cells: no p is below {8 * 2 / 2**pairs:.2g}" in said
    app.multiselect(key="panels").set_value([]).run()
    app.selectbox(key="at_train.group").set_value(64).run()
    assert not app.exception
    assert len(tables(app)[0]) == 4


@pytest.mark.parametrize(
    ("known", "sides"),
    [
        (["grpo", "recast", "sft"], ["recast", "sft"]),
        (["grpo", "recast"], ["recast", "grpo"]),
        (["recast", "repair_only"], ["recast", "repair_only"]),
        (["grpo", "sft"], ["sft", "grpo"]),
        (["grpo", "dr_grpo"], ["dr_grpo", "grpo"]),
        (["sft"], ["sft", "sft"]),
    ],
)
def test_a_comparison_opens_with_two_different_strategies_where_there_are_two(known, sides):
    assert [first_choice(known, place) for place in (0, 1)] == sides


def test_where_no_number_of_seeds_could_decide_the_page_says_so():
    app = AppTest.from_file(str(PAGES / "sweeps.py"), default_timeout=60)
    app.query_params["view"] = "compare"
    app.run()
    assert any("3 paired seeds: no p is below 0.25" in line.value for line in app.caption)
    assert any("no p is below 0.25" in line.value for line in page("budget").caption)


def test_cells_that_differ_in_nothing_have_no_map_and_the_command_is_given():
    app = AppTest.from_file(str(PAGES / "sweeps.py"), default_timeout=60)
    app.query_params["view"] = "map"
    app.run()
    assert "two fields" in app.info[0].value
    assert "recast sweep phase-map" in app.code[0].value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strategies = [", "not readable TOML"),
        ('strategies = ["grpo"]\nseeds = 0', "seeds"),
        ('strategies = ["gpro"]', "grpo"),
        ('strategies = ["grpo"]\n[train]\nstep = 3', "steps"),
        ('base = "/etc/passwd"', "not a packaged preset"),
        ('strategies = ["grpo"]\n[world]\nkind = "replay"\ndata = "/etc"', "RECAST_DATA"),
    ],
)
def test_a_faulty_sweep_gets_one_line_and_no_start(text, said):
    app = AppTest.from_file(str(PAGES / "sweeps.py"), default_timeout=60)
    app.query_params["view"] = "start"
    app.run()
    app.text_area(key="toml").set_value(text).run()
    assert not app.exception
    shown = app.error[0].value.replace("\\", "")
    assert said in shown
    assert "\n" not in shown
    assert "launch" not in [button.key for button in app.button]


@pytest.mark.parametrize("view", ["sweeps", "rates", "map"])
@pytest.mark.parametrize("data", ["packaged", "store"])
def test_every_view_of_sweeps_opens_on_the_package_and_on_a_store(view, data):
    app = AppTest.from_file(str(PAGES / "sweeps.py"), default_timeout=120)
    app.query_params.update({"view": view, "data": data})
    app.run()
    assert not app.exception
    assert app.title[0].value.endswith("?")


def test_pinned_runs_are_opened_from_the_address_with_what_sets_them_apart():
    runs = tables(page("sweeps"))[0]["run"].tolist()[:2]
    app = AppTest.from_file(str(PAGES / "sweeps.py"), default_timeout=120)
    app.query_params["pins"] = ",".join([*runs, "no such run"])
    app.run()
    assert not app.exception
    assert app.header[0].value == "How did these 2 runs go?"
    differing = next(t for t in tables(app) if "setting" in t.columns)
    assert len(differing.columns) == 3
    assert len(differing) >= 1
    assert {"rollouts", "updated_rows"} <= set(
        next(t for t in tables(app) if "optimizer_steps" in t.columns).columns
    )
