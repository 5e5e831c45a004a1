"""Charts of budgets, fronts, maps and questions: valid, titled, described, complete."""

from __future__ import annotations

import itertools

import polars as pl
import pytest

from workbench import charts
from workbench.charts.picture import AS_DRAWN, PictureStyle, picture, sized

NAMES = ["grpo", "recast", "sft", "some=composition"]
BANDS = {"low": [0.1, None], "high": [0.3, None]}


def over(field: str, values: list[float], mean: str = "mean") -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"strategy": name, field: value, mean: 0.2, "low": 0.1 + i, "high": 0.3, "n_runs": 5,
             "tuned": i == 0}
            for name, (i, value) in itertools.product(NAMES, enumerate(values))
        ]
    ).with_columns(pl.col("low").replace(1.1, None))  # fmt: skip


SHARES = pl.DataFrame(
    {
        "strategy": NAMES,
        "n_runs": [5] * 4,
        "n_reached": [5, 4, 0, 3],
        "share_of_baseline": [0.9, 0.2, None, None],
        "share_low": [0.8, 0.1, None, 0.5],
        "share_high": [0.95, None, None, None],
    }
)
FRONT = pl.DataFrame(
    {
        "strategy": NAMES,
        "x": [0.1, 0.2, 0.3, 0.2], "x_low": [0.0, None, 0.2, 0.1], "x_high": [0.2, None, 0.4, 0.3],
        "y": [0.3, 0.2, 0.1, 0.1], "y_low": [0.2, None, 0.0, 0.0], "y_high": [0.4, None, 0.2, 0.2],
        "on_front": [True, True, True, False],
    }
)  # fmt: skip
MAP = pl.DataFrame(
    [
        {"a": a, "b": b, "c": c, "d": d, "winner": ("sft", "none")[i % 2], "margin": 0.1}
        for i, (a, b, c, d) in enumerate(itertools.product((0.5, 0.9), (0.1, 0.4), (8, 64), (3,)))
    ]
)
DIFFERENCES = pl.DataFrame(
    {"label": ["x", "y"] * 2, "setting": ["s", "s", "t", "t"], "value": [0.1, -0.1, 0.0, 0.2],
     "low": [0.0, -0.2, None, 0.1], "high": [0.2, 0.0, None, 0.3], "p": [0.01, 0.5, 1.0, 0.04]}
)  # fmt: skip
COST = pl.DataFrame(
    {"prompt_tokens": [1, 8] * 2, "encoding": ["each"] * 2 + ["shared"] * 2,
     "ratio": [16.0, 16.0, 12.0, 3.0]}
)  # fmt: skip
LEFT = pl.concat(
    pl.DataFrame({"strategy": NAMES, "measure": name, "mean": 0.2, "low": 0.1, "high": [0.3] * 4})
    for name in ("entropy", "coverage_at_10")
)
DRAWN = {
    "waiting": (
        charts.waiting_curves(over("budget", [0.0, 9.0], "waiting"), "rollouts", 0.25),
        8,
    ),
    "shares": (charts.budget_shares(SHARES, "grpo", 0.041), 4),
    "profiles": (charts.performance_profiles(over("threshold", [0.1, 0.2], "share"), "greedy"), 8),
    "front": (charts.pareto_front(FRONT, "pass_at_1", "recall_at_10", "at equal cost"), 4),
    "map": (charts.phase_map(MAP, "greedy", "a", "b", "c", "d"), 8),
    "differences": (charts.differences(DIFFERENCES, "Which one is better?"), 4),
    "rate": (charts.against_rate(over("lr", [0.001, 0.01]), "greedy"), 8),
    "temperature": (charts.against_temperature(over("temperature", [0.5, 1.0])), 8),
    "k": (charts.against_k(over("k", [1.0, 32.0])), 8),
    "prompts": (charts.prompt_cost(COST), 4),
    "remaining": (charts.remaining(LEFT), 8),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_asks_a_question_says_what_it_shows_and_holds_every_row(name):
    chart, rows = DRAWN[name]
    spec = chart.to_dict()
    assert spec["title"].endswith("?")
    assert len(spec["description"]) > 60
    assert max(len(data) for data in spec["datasets"].values()) == rows


def test_a_strategy_that_never_reaches_keeps_its_row_and_its_count():
    drawing = str(charts.budget_shares(SHARES, "grpo", 0.041).to_dict())
    assert "0 of 5 reach it" in drawing
    assert "paper: 4.1%" in drawing


def test_every_tile_of_a_map_is_named_and_nobody_is_an_outcome():
    spec = DRAWN["map"][0].to_dict()
    assert spec["spec"]["layer"][1]["encoding"]["text"]["field"] == "winner"
    assert "none" in spec["description"]


def test_a_picture_for_a_paper_has_its_size_and_type():
    chart = charts.learning_curves(over("x", [0.0, 9.0]), "greedy", "rollouts")
    plain = chart.to_dict()
    assert sized(plain, AS_DRAWN) == plain
    made = sized(plain, PictureStyle(width=240, height=150, size=8, font="serif"))
    assert (made["width"], made["height"]) == (240, 150)
    assert made["config"]["font"] == "serif"
    assert made["config"]["axis"]["labelFontSize"] == 8
    pytest.importorskip("vl_convert")
    drawn = picture(
        chart, "svg", look=PictureStyle(width=240, height=150, size=8, font="serif")
    ).decode()
    assert "serif" in drawn
    assert picture(chart, "pdf").startswith(b"%PDF")
