"""The rules that every chart keeps, checked on one drawing of each chart function there is."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_charts import COST, DIFFERENCES, FRONT, MAP, SHARES, over

from workbench import charts
from workbench.charts.exact import DIRECTIONS
from workbench.charts.line_key import key_path
from workbench.theory import frames as theory
from workbench.theory import story
from workbench.theory.group import sample_group, tree_frames
from workbench.theory.microscope import signal_frames
from workbench.theory.regimes import regime_frame

NAMES = ["grpo", "recast", "sft", "some=composition"]
KNOWN = ["grpo", "recast", "sft"]
CURVES = over("x", [0.0, 100.0])
TARGETS = over("target", [0.2, 0.4], "median").with_columns(
    n_reached=pl.lit(5), median=pl.col("median") * 1000
)
RACE = pl.DataFrame(
    [
        {"strategy": name, "step": step, "seed": seed, "pass_at_1": 0.1 + seed / 100}
        | {"recall_at_10": 0.2 + step / 100}
        | dict.fromkeys(("all_zero", "single_hit", "multi_hit", "saturated"), 0.25)
        for name, step, seed in itertools.product(KNOWN, (0, 5, 10), range(5))
    ]
)
EXACT = pl.DataFrame(
    [{"strategy": name, **dict.fromkeys(DIRECTIONS, 0.5), "snr": 1.5} for name in KNOWN]
)
EFFICIENCY = pl.DataFrame(
    [
        {
            "strategy": name,
            "prefix": prefix,
            "group": group,
            "prompt_tokens": 31,
            "micro_rows": micro,
            "ratio": 2.0,
            "token_ratio": 3.0,
        }
        for name, prefix, group, micro in itertools.product(
            ("grpo", "recast"), ("reencoded", "shared"), (8, 32), (0, 64)
        )
    ]
)
LOG = pl.DataFrame(
    [
        {"step": step, "task": task, "groups": 10}
        | dict.fromkeys(("all_zero", "single_hit", "multi_hit", "saturated"), 0.25)
        for step, task in itertools.product((1, 5, 9), ("ad", "video"))
    ]
)
OTHER_G = pl.DataFrame(
    [
        {"group": group, "learnable": 0.1, "learnable_low": 0.05, "learnable_high": 0.2}
        | {"cost": cost and 10 * cost, "cost_low": cost and 5 * cost, "cost_high": cost}
        for group, cost in ((1, None), (2, 20.0), (8, 80.0))
    ]
)
WHAT_IF = pl.DataFrame(
    {"strategy": KNOWN, "learnable": [0.1, 1.0, None], "update_width": [8.0, 2.0, None]}
)
SCORES = pl.DataFrame(
    {
        "strategy": ["start", *NAMES],
        "seeds": [5] * 5,
        "greedy": [0.1, 0.2, 0.3, 0.2, 0.1],
        "greedy_low": [None, 0.1, 0.2, 0.1, None],
        "greedy_high": [None, 0.3, 0.4, 0.3, None],
    }
)
LEFT = pl.concat(
    over("x", [0.0, 1.0]).with_columns(measure=pl.lit(name))
    for name in ("entropy", "coverage_at_10")
)
GROUP = sample_group(4, 0.3, 1)
BARS = signal_frames(GROUP, KNOWN, 0, 0.3)[0]
VERDICTS = pl.DataFrame(
    {
        "label": ["HR@10", "HR@10"],
        "rival": ["sft", "grpo"],
        "tone": ["first", "open"],
        "said": ["+.01, recast ahead", "-.01, open"],
        "difference": [0.01, -0.01],
        "low": [0.005, -0.02],
        "high": [0.015, 0.001],
        "p": [0.01, 0.5],
    }
)
STATED = pl.DataFrame(
    {
        "rung": ["theory", "theory", "replay_mlp"],
        "stated": [0.6, 0.95, 0.8],
        "right": [0.5, 0.9, 0.9],
        "low": [0.3, 0.7, 0.6],
        "high": [0.7, 1.0, 1.0],
        "pairs": [20, 40, 60],
    }
)
KNOWING = pl.DataFrame(
    {
        "cheap": ["look_alike", "replay_mlp"],
        "dear": ["lm_0.15M"] * 2,
        "metric": ["area"] * 2,
        "accuracy": [0.7, 0.9],
        "low": [0.5, 0.8],
        "high": [0.8, 0.95],
        "pairs": [40, 40],
        "seconds": [20.0, 90.0],
    }
)
RUNS = pl.DataFrame(
    [
        {"run": f"{name} {lr}", "label": name, "strategy": name, "lr": lr, "seed": 0, "step": 5}
        | {"group": 8, "greedy": 0.1 + lr}
        for name, lr in itertools.product(KNOWN, (0.001, 0.003, 0.1))
    ]
)
DRAWN = {
    "advantages": charts.advantages(BARS),
    "against_k": charts.against_k(over("k", [1.0, 32.0])),
    "against_rate": charts.against_rate(over("lr", [0.001, 0.01]), "greedy"),
    "against_temperature": charts.against_temperature(over("temperature", [0.5, 1.0])),
    "budget_by_target": charts.budget_by_target(TARGETS),
    "budget_shares": charts.budget_shares(SHARES, "grpo", 0.041),
    "counts_over_training": charts.counts_over_training(CURVES),
    "differences": charts.differences(DIFFERENCES, "Which one is better?"),
    "exact_directions": charts.exact_directions(EXACT),
    "final_scores": charts.final_scores(SCORES, "greedy"),
    "group_story": charts.group_story(
        *story.leaves()[:2],
        3,
        story.pushes("recast").bars.with_columns(panel=pl.lit("ReCast")),
        (29, 27.0, 0.0),
        "ReCast",
    ),
    "learning_curves": charts.learning_curves(CURVES, "greedy", "rollouts", start=0.1, ceiling=0.4),
    "logged_regimes": charts.logged_regimes(LOG),
    "other_widths": charts.other_widths(OTHER_G, 8, 0.12),
    "parallel": charts.parallel(RUNS, ["lr", "group"], "greedy"),
    "pareto_front": charts.pareto_front(FRONT, "pass_at_1", "recall_at_10", "at equal cost"),
    "performance_profiles": charts.performance_profiles(
        over("threshold", [0.1, 0.2], "share"), "greedy"
    ),
    "phase_map": charts.phase_map(MAP, "greedy", "a", "b", "c", "d"),
    "prompt_cost": charts.prompt_cost(COST),
    "regimes_by_group": charts.regimes_by_group(regime_frame(0.01, 0.5, [2, 8]), 8),
    "regimes_over_training": charts.regimes_over_training(RACE),
    "remaining": charts.remaining(LEFT),
    "run_curves": charts.run_curves(RUNS, "greedy", ["a"]),
    "sid_tree": charts.sid_tree(*tree_frames(GROUP, 0, None), 3),
    "signal_counts": charts.signal_counts(theory.count_frame(KNOWN, 0.01, 0.5, 8)),
    "trade_off": charts.trade_off(RACE, "pass_at_1", "recall_at_10"),
    "update_ratio": charts.update_ratio(EFFICIENCY, "grpo", "recast"),
    "verdict_map": charts.verdict_map(
        VERDICTS,
        "Who is ahead?",
        "ReCast against SFT and GRPO in planted runs, one tile each for a metric.",
    ),
    "waiting_curves": charts.waiting_curves(over("budget", [0.0, 9.0], "waiting"), "rollouts", 0.2),
    "what_if": charts.what_if(WHAT_IF),
    "do_probabilities_hold": charts.do_probabilities_hold(STATED),
    "what_knowing_costs": charts.what_knowing_costs(KNOWING, "area"),
    "weights": charts.weights(theory.weight_frame(KNOWN, 0.01, 8), 0.01, "shape"),
    "what_width_buys": charts.what_width_buys(theory.reach_frame(KNOWN, 0.01, 0.5, [2, 8])),
}
# Exact numbers, and shares of a fixed set of runs, have no interval to draw.
EXACTLY_KNOWN = {
    "advantages",
    "exact_directions",
    "group_story",
    "parallel",
    "phase_map",
    "prompt_cost",
    "regimes_by_group",
    "run_curves",
    "sid_tree",
    "signal_counts",
    "update_ratio",
    "verdict_map",
    "waiting_curves",
    "weights",
    "what_if",
    "what_width_buys",
}
MEANS_ONLY = {"regimes_over_training", "logged_regimes"}  # stacked shares
DISTINCT = ("shape", "strokeDash", "text")


def parts(spec: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a chart's specification."""
    if isinstance(spec, dict):
        yield spec
        for key, value in spec.items():
            if key != "datasets":
                yield from parts(value)
    elif isinstance(spec, list):
        for one in spec:
            yield from parts(one)


def encodings(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [part["encoding"] for part in parts(spec) if isinstance(part.get("encoding"), dict)]


def channels(spec: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [one[name] for one in encodings(spec) if isinstance(one.get(name), dict)]


def test_every_chart_function_is_looked_at() -> None:
    functions = {
        name
        for name in charts.__all__
        if inspect.isfunction(getattr(charts, name)) and name != "in_order"
    }
    assert set(DRAWN) == functions
    modules = {path.stem for path in Path(charts.__file__).parent.glob("*.py")}
    homes = {getattr(charts, name).__module__.rpartition(".")[2] for name in functions}
    assert modules - homes == {
        "__init__",
        "legend_light",
        "line_key",
        "picture",
        "strategy_style",
        "style",
        "together",
    }


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_asks_a_question_and_has_an_alternative_text(name: str) -> None:
    spec = DRAWN[name].to_dict()
    assert spec["title"].endswith("?")
    assert len(spec["description"]) > 60


@pytest.mark.parametrize("name", DRAWN)
def test_an_axis_of_numbers_says_what_it_counts(name: str) -> None:
    spec = DRAWN[name].to_dict()
    for channel in ("x", "y"):
        drawn = [one for one in channels(spec, channel) if one.get("type") == "quantitative"]
        titled = [one for one in drawn if one.get("title") or one.get("axis", "") is None]
        silent = name == "advantages" and channel == "y"  # the row header says it
        assert titled or not drawn or silent, f"{name}: no title on {channel}"


@pytest.mark.parametrize("name", DRAWN)
def test_a_mark_tells_its_numbers_when_pointed_at(name: str) -> None:
    told = [
        one["field"]
        for encoding in encodings(DRAWN[name].to_dict())
        for one in encoding.get("tooltip", [])
    ]
    assert len(set(told)) >= 2


@pytest.mark.parametrize("name", DRAWN)
def test_a_tooltip_names_its_lines_in_words_and_rounds_its_numbers(name: str) -> None:
    for encoding in encodings(DRAWN[name].to_dict()):
        for line in encoding.get("tooltip", []):
            assert line.get("title"), f"{name}: {line}"
            assert "_" not in line["title"], f"{name}: {line}"
            assert line["type"] != "quantitative" or line.get("format"), f"{name}: {line}"
            assert "~g" not in line.get("format", ""), f"{name}: 84992 would be 8.499e+4"


@pytest.mark.parametrize("name", DRAWN)
def test_what_colour_tells_apart_differs_without_colour_too(name: str) -> None:
    spec = DRAWN[name].to_dict()
    coloured = {one["field"].strip("[']") for one in channels(spec, "color") if "field" in one}
    named = {one.get("field") for axis in ("x", "y") for one in channels(spec, axis)}
    for field in coloured - named:
        other = {
            one.get("field", "").strip("[']")
            for channel in DISTINCT
            for one in channels(spec, channel)
        } | {row["field"] for part in parts(spec) if (row := part.get("facet", {}).get("row"))}
        stacked = name in MEANS_ONLY  # in a fixed order, white lines between
        branches = name == "sid_tree" and field == "path"  # by width
        labelled = (name == "phase_map" and "winner" in other) or (
            name == "verdict_map" and "said" in other
        )
        assert field in other or stacked or branches or labelled, f"{name}: {field} is colour alone"


@pytest.mark.parametrize("name", DRAWN)
def test_a_strategy_has_its_own_colour_and_place_in_every_chart(name: str) -> None:
    for colour in channels(DRAWN[name].to_dict(), "color"):
        if colour.get("field") != "strategy":
            continue
        domain, used = colour["scale"]["domain"], colour["scale"]["range"]
        assert domain == charts.in_order(domain)
        for strategy, hue in zip(domain, used, strict=True):
            if strategy in charts.STYLE:
                assert hue == charts.STYLE[strategy].colour


DASHED = [
    name
    for name, chart in DRAWN.items()
    if any("strategy" in one.get("field", "") for one in channels(chart.to_dict(), "strokeDash"))
]


@pytest.mark.parametrize("name", DASHED)
def test_a_legend_of_dashed_lines_shows_the_dash_of_each(name: str) -> None:
    spec = DRAWN[name].to_dict()
    dashes = next(
        one["scale"] for one in channels(spec, "strokeDash") if "strategy" in one.get("field", "")
    )
    shapes = [one for one in channels(spec, "shape") if "scale" in one]
    if not shapes:  # lines without marks: Vega draws a piece of each
        keys = [one["legend"]["symbolType"] for one in channels(spec, "strokeDash")]
        assert keys == ["stroke"]
        return
    keys = [one for one in shapes if one.get("legend")]
    marks = [one for one in shapes if not one.get("legend")]
    assert len(keys) == 1
    for strategy, dash, drawn, mark in zip(
        dashes["domain"],
        dashes["range"],
        keys[0]["scale"]["range"],
        marks[0]["scale"]["range"],
        strict=True,
    ):
        assert drawn == key_path(dash, mark), strategy
    svg = pytest.importorskip("vl_convert").vegalite_to_svg(spec)
    assert svg.count(">Strategy<") == 1


def test_a_key_holds_the_pieces_of_a_dash_that_the_mark_leaves_room_for() -> None:
    pieces = [key_path(dash, "circle").count("H") // 2 for dash in ([1, 0], [6, 3], [2, 2])]
    assert pieces == [2, 4, 6]


@pytest.mark.parametrize("name", sorted(set(DRAWN) - EXACTLY_KNOWN - MEANS_ONLY))
def test_an_estimate_is_drawn_with_its_interval(name: str) -> None:
    spec = DRAWN[name].to_dict()
    fields = {one["field"] for one in channels(spec, "y") + channels(spec, "x") if "field" in one}
    assert any(field.endswith("low") for field in fields)
    ends = {one.get("field", "") for one in channels(spec, "x2") + channels(spec, "y2")}
    assert any(field.endswith(("high", "end")) for field in ends)


def test_a_page_leaves_the_regimes_of_one_task_their_height() -> None:
    spec = charts.logged_regimes(LOG.filter(task="ad")).to_dict()
    assert spec["height"] == 180
    assert spec["autosize"] == "pad"  # Streamlit's own "fit" counts legend and axis in


def test_the_start_and_the_ceiling_are_drawn_and_named() -> None:
    spec = str(DRAWN["learning_curves"].to_dict())
    assert "'label': 'start'" in spec
    assert "'label': 'ceiling'" in spec
    far = charts.learning_curves(CURVES, "greedy", "rollouts", start=0.1, ceiling=0.9)
    assert "ceiling 0.9, above this picture" in str(far.to_dict())
    assert "before RL" in str(DRAWN["final_scores"].to_dict())


def test_intervals_that_few_seeds_do_not_have_leave_no_empty_layer() -> None:
    none = CURVES.with_columns(low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64))
    with_bands, without = (
        charts.learning_curves(frame, "greedy", "rollouts").to_dict() for frame in (CURVES, none)
    )
    assert len(encodings(without)) == len(encodings(with_bands)) - 1
    assert all(without["datasets"].values())
    pair = {"label": "Area", "setting": "quick", "value": 0.1, "p": 0.4}
    frames = (pl.DataFrame([pair | {"low": low, "high": 0.2}]) for low in (0.05, None))
    shown, bare = (charts.differences(frame, "Who leads?").to_dict() for frame in frames)
    assert len(encodings(bare)) == len(encodings(shown)) - 1
    assert all(bare["datasets"].values())


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_draws_without_a_warning_and_no_legend_repeats(name: str) -> None:
    converter = pytest.importorskip("vl_convert")
    drawing = converter.vegalite_to_svg(DRAWN[name].to_dict())
    assert drawing.startswith("<svg")
    assert "NaN" not in drawing
    assert "Infinity" not in drawing
    assert drawing.count("role-legend-title") <= 2
