"""Budgets worked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.analysis.budget import budget_table, curve_table, first_reach, isotonic
from workbench.analysis.rows import tuned_test_rows

X = [0.0, 100.0, 200.0, 300.0]


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([0.0, 0.2, 0.4, 0.4], 150.0),  # crosses .3 half-way between 100 and 200
        ([0.0, 0.3, 0.3, 0.3], 100.0),  # exactly on an evaluation
        ([0.5, 0.5, 0.5, 0.5], 0.0),  # already there at the start
        ([0.0, 0.6, 0.1, 0.5], 600 / 7),  # on average .35 from the second on
        ([0.0, 0.5, 0.0, 0.6], None),  # a spike that is lost, then the last evaluation alone
        ([0.0, 0.0, 0.6, 0.6], 150.0),  # the next one is the last one
        ([0.0, 0.0, 0.0, 0.9], None),
        ([0.0, 0.6, 0.0, 0.1], None),  # lost again
        ([math.nan, 0.4, 0.4, 0.4], 100.0),  # nothing to interpolate from
        ([0.0, 0.1, 0.2, 0.2], None),
    ],
)
def test_a_target_is_reached_where_the_curve_that_never_falls_is(y, expected):
    reached = first_reach(X, y, 0.3)
    assert reached == (pytest.approx(expected) if expected is not None else None)


@pytest.mark.parametrize("evaluations", [8, 50])
def test_noise_on_a_plateau_below_the_target_seldom_reaches_it_however_often_one_looks(evaluations):
    """One noise SD below: two in a row were found in 14% of runs with 8 looks and 66% with 50."""
    rng = np.random.default_rng(0)
    x = list(range(evaluations))
    reached = [
        first_reach(x, rng.standard_normal(evaluations).tolist(), 1.0) is not None
        for _ in range(400)
    ]
    assert np.mean(reached) < 0.12


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12))
def test_the_isotonic_curve_is_the_least_squares_fit_that_never_falls(values):
    fit = isotonic(values)
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(fit))
    # The known min-max formula, a loop over all intervals.
    n = len(values)
    for i in range(n):
        slow = max(min(np.mean(values[a : b + 1]) for b in range(i, n)) for a in range(i + 1))
        assert fit[i] == pytest.approx(slow, abs=1e-9)


def test_a_run_of_one_evaluation_reaches_nothing():
    assert first_reach([0.0], [1.0], 0.3) is None
    assert first_reach([], [], 0.3) is None


def runs(curves: dict[str, list[list[float]]], unit: dict[str, int]) -> pl.DataFrame:
    """One row per strategy, seed and evaluation; a step costs `unit` rollouts."""
    return pl.DataFrame(
        [
            {
                "run": f"{name}-{seed}",
                "strategy": name,
                "seed": seed,
                "tuned": True,
                "split": "test",
                "slice": "all",
                "step": step,
                "rollouts": step * unit[name],
                "greedy": value,
            }
            for name, seeds in curves.items()
            for seed, curve in enumerate(seeds)
            for step, value in enumerate(curve)
        ]
    )


def test_budget_table_counts_the_runs_that_never_reach():
    frame = runs(
        {
            "grpo": [[0.0, 0.2, 0.4, 0.4]] * 3,  # .4 is reached at 20 rollouts
            "recast": [[0.0, 0.4, 0.4, 0.4]] * 2 + [[0.0] * 4],  # at 10, 10, never
            "sft": [[0.0, 0.4, 0.4, 0.4]] * 3,  # no rollouts: not on this axis
        },
        {"grpo": 10, "recast": 10, "sft": 0},
    )
    table = budget_table(frame, "greedy", "rollouts", "grpo")
    assert table["strategy"].to_list() == ["grpo", "recast"]
    assert table["target"].to_list() == pytest.approx([0.4, 0.4])
    assert table["n_runs"].to_list() == [3, 3]
    assert table["n_reached"].to_list() == [3, 2]
    assert table["median"].to_list() == pytest.approx([20, 10])
    assert table["ratio_to_baseline"].to_list() == pytest.approx([1, 0.5])
    assert table["low"].to_list() == [None, None]  # 3 runs: no interval


def test_a_median_needs_more_than_half_of_the_runs():
    frame = runs(
        {"grpo": [[0.0, 1.0, 1.0]] * 2, "dr_grpo": [[0.0] * 3] * 2},
        dict.fromkeys(("grpo", "dr_grpo"), 5),
    )
    table = budget_table(frame, "greedy", "rollouts", "dr_grpo", targets=[0.5])
    assert dict(zip(table["strategy"], table["median"], strict=True)) == {
        "dr_grpo": None,
        "grpo": 2.5,
    }
    assert table["ratio_to_baseline"].to_list() == [None, None]


def test_five_runs_get_an_interval_and_it_is_the_same_each_time():
    curves = [[0.0, k / 10, 1.0, 1.0] for k in range(1, 6)]
    frame = runs({"grpo": curves}, {"grpo": 10})
    first, second = (budget_table(frame, "greedy", "rollouts", "grpo", [0.5]) for _ in range(2))
    assert first.equals(second)
    row = first.row(0, named=True)
    assert row["low"] <= row["median"] <= row["high"]
    assert row["low"] < row["high"]


def test_an_interval_that_includes_runs_that_never_reach_is_open_above():
    frame = runs({"grpo": [[0.0, 1.0, 1.0]] * 3 + [[0.0] * 3] * 2}, {"grpo": 10})
    row = budget_table(frame, "greedy", "rollouts", "grpo", [0.5]).row(0, named=True)
    assert (row["median"], row["low"], row["high"]) == (5.0, 5.0, None)


def test_a_curve_is_the_mean_over_seeds():
    frame = runs({"grpo": [[0.0, 0.2], [0.2, 0.6]]}, {"grpo": 10})
    table = curve_table(frame, "greedy", "rollouts")
    assert table["x"].to_list() == [0, 10]
    assert table["mean"].to_list() == pytest.approx([0.1, 0.4])
    assert table["n_runs"].to_list() == [2, 2]


def test_only_tuned_test_rows_on_all_users_are_compared():
    frame = runs({"grpo": [[0.0, 0.2]]}, {"grpo": 10})
    others = [
        frame.with_columns(tuned=False),
        frame.with_columns(split=pl.lit("validation")),
        frame.with_columns(slice=pl.lit("new")),
    ]
    assert tuned_test_rows(pl.concat([frame, *others])).equals(frame)


def test_a_baseline_without_runs_is_named():
    with pytest.raises(ValueError, match="no runs of 'rloo'"):
        budget_table(runs({"grpo": [[0.0]]}, {"grpo": 1}), "greedy", "rollouts", "rloo")
