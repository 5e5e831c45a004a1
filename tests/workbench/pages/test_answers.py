"""The story of the home page, and pages that answer before they draw."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from opened import tables
from streamlit.testing.v1 import AppTest

from recast.regimes import beta_regimes
from workbench.analysis.compare import Side, compare
from workbench.analysis.example import packaged_example
from workbench.pages.over_worlds import over_worlds
from workbench.real.saved import packaged
from workbench.studies.packaged import packaged as packaged_study
from workbench.studies.phase_map import across_worlds

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "workbench" / "pages"
PATIENCE = 180


@pytest.fixture(autouse=True)
def _empty_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECAST_STORE", str(tmp_path / "none"))


def page(name: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=PATIENCE)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    return app


def plain_words(app: AppTest) -> str:
    return " ".join(one.value.replace("\\", "") for one in [*app.markdown, *app.caption])


def test_the_story_has_seven_steps_each_with_a_sentence_and_a_number_and_a_way_on():
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE).run()
    told = []
    for place in range(1, 8):
        assert not app.exception
        assert app.session_state["step"] == place
        told.append(app.markdown[0].value)
        assert re.search(r"\*\*.*\d.*\*\*", told[-1])
        assert not re.search(r"[.?!]\W*\s\W*[A-Z]", told[-1])  # one sentence
        ways_on = [one.proto.label for one in app.main.get("page_link")]
        assert ways_on == ["Try it yourself"]
        if place < 7:
            app.button(key="next").click().run()
    assert len(set(told)) == 7
    assert app.button(key="next").disabled
    app.button(key="back").click().run()
    assert app.session_state["step"] == 6
    share = beta_regimes(0.0054, 0.89, 32)["all_zero"]
    assert f"{share:.1%}" in told[0]


def test_a_step_of_the_story_can_be_linked():
    assert "boundary pair" in page_of_story(4).header[0].value


def test_the_page_and_the_command_give_one_pair_the_same_p():
    frame, _ = packaged_example()
    table = compare(frame, Side("recast", {}), Side("sft", {}))
    expected = table.filter(metric="area")["p_corrected"][0]
    app = page("sweeps", view="compare", strategy_0="recast", strategy_1="sft")
    shown = next(one for one in tables(app) if "p_corrected" in one.columns)
    assert shown.set_index("metric").loc["area", "p_corrected"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "query"),
    [("budget", {}), ("sweeps", {"view": "compare"}), ("real_models", {}), ("claims", {})],
)
def test_an_evidence_page_answers_before_its_first_picture(name, query):
    app = page(name, **query)
    kinds = [node.type for node in app.main]
    answered = next(
        place
        for place, node in enumerate(app.main)
        if node.type == "markdown" and node.value.startswith(":material/")
    )
    pictures = [place for place, kind in enumerate(kinds) if "chart" in kind or "frame" in kind]
    assert pictures
    assert answered < pictures[0]
    assert re.search(r"seeds|claims", plain_words(app))


def test_the_budget_answer_says_what_the_rates_are_chosen_for_and_on_whom_it_is_measured():
    words = plain_words(page("budget", metric="pass_at_1"))
    assert "best on validation users by: Pass@1, sampled at T = 1" in words
    assert re.search(r"measured on [0-9,]+ test users, the answer .* on all of them", words)


def test_the_real_model_answer_quotes_the_packaged_table():
    table = next(one.table for one in packaged() if one.kind == "differences")
    row = table.filter(strategy="recast", control="sft", metric="area").row(0, named=True)
    words = plain_words(page("real_models"))
    assert f"{abs(row['difference']):.4f}".lstrip("0") in words
    assert "did harm" not in words


def test_recast_and_sft_are_named_as_one_line():
    words = plain_words(page("learnability"))
    assert "`recast` and `sft` lie on one line" in words


@pytest.mark.parametrize(
    ("name", "query", "kept"),
    [
        ("budget", {"metric": "nonsense"}, "metric"),
        ("learnability", {"strategies": "nope"}, "strategies"),
        ("learnability", {"hit_probability": "900"}, "hit_probability"),
        ("claims", {"claim": "C99"}, "claim"),
        ("sweeps", {"view": "foo"}, "view"),
    ],
)
def test_an_address_that_asks_for_what_is_not_there_is_told(name, query, kept):
    app = page(name, **query)
    said = [one.value for one in app.warning if "The address asks for" in one.value]
    assert len(said) == 1
    assert kept in said[0]
    assert next(iter(query.values())) in said[0]


def test_the_packaged_data_stay_within_reach_of_a_store_with_runs(monkeypatch, tmp_path):
    from opened import made_up_runs

    from workbench.store.runs import Store

    store = Store(tmp_path / "own").prepare()
    for key, record in made_up_runs().items():
        store.write(key, record)
    monkeypatch.setenv("RECAST_STORE", str(store.root))
    for name in ("budget", "sweeps", "gradient_signals"):
        app = page(name)
        assert app.selectbox(key="data").value == "store"
        app.selectbox(key="data").set_value("packaged").run()
        assert not app.exception
        assert "packaged example" in plain_words(app)


def test_compare_takes_another_metric_for_its_rates_and_says_what_the_drawn_one_would_choose():
    sides = {"view": "compare", "strategy_0": "recast", "strategy_1": "grpo"}
    frame, _ = packaged_example()
    table = compare(frame, Side("recast", {}), Side("grpo", {}), tune_metric="pass_at_1")
    row = table.filter(metric="area").row(0, named=True)
    own = compare(frame, Side("recast", {}), Side("grpo", {})).filter(metric="area")
    assert own["lr_second"][0] != row["lr_second"]
    app = page("sweeps", **sides, tune="pass_at_1")
    words = plain_words(app)
    assert f"grpo {own['lr_second'][0]:g} (here {row['lr_second']:g})" in words
    assert "recast compare recast grpo --tune-metric pass_at_1" in words
    shown = next(one for one in tables(app) if "p_corrected" in one.columns)
    assert shown.set_index("metric").loc["area", "lr_second"] == row["lr_second"]
    assert "would have chosen" not in plain_words(page("sweeps", **sides))


def test_the_map_of_worlds_speaks_beside_packaged_data_alone_and_its_story_agrees():
    study = packaged_study("phase-map")
    assert study is not None
    said = across_worlds(study.tables["duels"], "area", rivals=["sft"])
    assert said is not None
    for name, query in (("budget", {}), ("sweeps", {"view": "compare"})):
        assert said.verdict.partition(",")[0] in plain_words(page(name, **query))
    own = ("./runs", "digest")
    assert over_worlds(own, "recast", ["sft"], "area") is None
    told = page_of_story(6).markdown[0].value
    ahead = re.search(r"ahead of sft in (\d+)", said.verdict)
    assert ahead
    assert f"against sft ReCast is ahead in {ahead[1]}," in told


def page_of_story(step: int) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    app.query_params["step"] = str(step)
    return app.run()
