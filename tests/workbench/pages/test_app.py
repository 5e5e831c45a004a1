"""Every page renders, and its controls change what it shows."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import workbench.analysis.example
from recast import STRATEGIES
from recast.ledger import RunRecord
from workbench import charts
from workbench.charts import strategy_style as style
from workbench.pages import browse, stored
from workbench.store.runs import Store
from workbench.studies.packaged import packaged
from workbench.theory.regimes import regime_frame

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "workbench" / "pages"


def made_up_runs() -> dict[str, RunRecord]:
    """Three seeds of three strategies that rise at different speeds; one seed never rises."""
    runs = {}
    for name, speed, width in (("grpo", 1, 8), ("recast", 2, 2), ("sft", 3, 1)):
        for seed in range(3):
            rows = []
            for step, split in product(range(0, 50, 10), ("test", "validation")):
                level = 0.1 if (name, seed) == ("recast", 2) else 0.1 + 0.002 * speed * step
                row = dict.fromkeys(charts.METRICS, level + 0.001 * seed)
                row |= dict.fromkeys(charts.COUNTS, float(width) if step else None)
                row |= {
                    "split": split,
                    "slice": "all",
                    "step": step,
                    "rollouts": 0 if name == "sft" else step * 64,
                    "updated_rows": step * 8 * width,
                    "optimizer_steps": step,
                    "labels": 0 if name == "grpo" else step * 8,
                    "scored_rows": 0 if name == "sft" else step * 64,
                    "skipped_prompts": 0,
                }
                rows.append(row)
            config = {"strategy": name, "seed": seed, "lr": 0.01, "cell": "one", "world": "demo"}
            ceilings = {"ceiling_pass_at_1": 0.6, "ceiling_recall_at_10": None}
            runs[f"{name}-{seed}"] = RunRecord(config | {"group": 8}, tuple(rows), ceilings)
    return runs


@pytest.fixture(scope="module")
def full_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("full")).prepare()
    for key, record in made_up_runs().items():
        store.write(key, record)
    return store.root


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch, full_store: Path) -> None:
    monkeypatch.setenv("RECAST_STORE", str(full_store))


def page(name: str) -> AppTest:
    app = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=60).run()
    assert not app.exception
    return app


def tables(app: AppTest) -> list:
    return [table.value for table in app.dataframe]


def test_the_app_opens_on_the_story():
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not app.exception
    assert "32 rollouts" in app.title[0].value


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


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two hex colours, as WCAG defines it."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_strategy_has_its_own_look_without_colour():
    assert list(charts.STYLE) == list(STRATEGIES)
    looks = [(tuple(style.dash), style.shape) for style in charts.STYLE.values()]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("name", style.FAMILIES)
def test_a_family_shares_a_hue_that_shows_on_both_themes_and_its_first_fourteen_differ(name):
    looks = [style._look(name, place) for place in range(14)]
    assert len({(tuple(look.dash), look.shape) for look in looks}) == 14
    assert {look.colour for look in looks} == set(style.FAMILIES[name].tints)
    for look in looks:
        assert contrast(look.colour, "#FFFFFF") >= 3
        assert contrast(look.colour, "#0E1117") >= 3


def test_what_most_pictures_show_differs_in_colour_and_mark():
    looks = [charts.STYLE[name] for name in style._FIRST]
    assert len({(look.colour, look.shape) for look in looks}) == len(looks)
    legend = charts.regimes_by_group(regime_frame(0.01, 0.5, [2, 8])).to_dict()
    assert "'symbolType': 'stroke'" in str(legend)  # a dash frays a dot


def test_no_two_families_share_a_mark():
    shapes = [shape for family in style.FAMILIES.values() for shape in family.shapes]
    assert len(set(shapes)) == len(shapes)


def linked(**query: str | list[str]) -> AppTest:
    """A small page with one control of each kind, opened at an address."""

    def script() -> None:
        import streamlit as st

        from workbench.pages.address import Address

        view = Address("demo")
        ceiling = st.session_state.get("ceiling", 10.0)
        st.slider("Level", 0.0, ceiling, **view.number("level", 2.0, low=0.0, high=ceiling))
        st.slider("Count", 1, 9, **view.number("count", 3, low=1, high=9))
        st.selectbox("One", ["a", "b"], **view.one_of("one", ["a", "b"]))
        st.multiselect("Some", ["a", "b", "c"], **view.some_of("some", ["a", "b", "c"], ["a"]))
        st.toggle("Flag", **view.flag("flag"))
        st.text_input("Text", **view.text("text"))
        view.presets({"High": {"level": 9.0, "one": "b"}})

    app = AppTest.from_function(script, default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def controls(app: AppTest) -> dict:
    names = ("level", "count", "one", "some", "flag", "text")
    return {name: app.session_state[name] for name in names}


def test_a_link_opens_the_view_that_it_was_copied_from():
    app = linked()
    app.slider(key="level").set_value(7.25).run()
    app.slider(key="count").set_value(5).run()
    app.selectbox(key="one").set_value("b").run()
    app.multiselect(key="some").set_value(["b", "c"]).run()
    app.toggle(key="flag").set_value(True).run()
    app.text_input(key="text").set_value("a&b=c d").run()
    assert not app.exception
    assert controls(linked(**app.query_params)) == controls(app)
    assert controls(app)["some"] == ["b", "c"]


def test_what_equals_its_default_stays_out_of_the_address():
    app = linked()
    assert dict(app.query_params) == {}
    app.slider(key="level").set_value(7.0).run()
    assert dict(app.query_params) == {"level": "7.0"}
    app.slider(key="level").set_value(2.0).run()
    assert dict(app.query_params) == {}


def test_nothing_chosen_is_a_view_of_its_own():
    app = linked()
    app.multiselect(key="some").set_value([]).run()
    assert controls(linked(**app.query_params))["some"] == []


def test_going_back_to_an_address_puts_the_controls_back():
    app = linked()
    app.slider(key="level").set_value(7.0).run()
    app.query_params.clear()
    app.run()
    assert controls(app) == controls(linked())


def test_a_preset_is_one_click_and_lands_in_the_address():
    app = linked()
    app.button(key="preset High").click().run()
    assert not app.exception
    assert dict(app.query_params) == {"level": "9.0", "one": "b"}
    assert controls(app)["level"] == 9.0


@pytest.mark.parametrize(
    "query",
    [
        {"level": "much"},
        {"level": "nan"},
        {"level": "inf"},
        {"count": "2.5"},
        {"one": "<script>"},
        {"some": "zebra"},
        {"flag": "maybe"},
    ],
)
def test_an_address_that_does_not_fit_opens_the_default(query):
    assert controls(linked(**query)) == controls(linked())


def test_a_number_outside_its_range_is_clipped():
    assert controls(linked(level="99", count="-4")) == controls(linked()) | {
        "level": 10.0,
        "count": 1,
    }


def test_a_control_follows_bounds_that_move():
    app = linked(level="9")
    app.session_state["ceiling"] = 5.0
    app.run()
    assert not app.exception
    assert controls(app)["level"] == 5.0


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
    app.multiselect(key="panels").set_value([]).run()
    app.selectbox(key="at_train.group").set_value(64).run()
    assert not app.exception
    assert len(tables(app)[0]) == 4


def test_where_no_number_of_seeds_could_decide_the_page_says_so():
    app = AppTest.from_file(str(PAGES / "sweeps.py"), default_timeout=60)
    app.query_params["view"] = "compare"
    app.run()
    assert any("With 3 paired seeds no p is below 0.25" in line.value for line in app.caption)
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
