"""Kaplan-Meier by hand and against scipy; budgets to a target with runs that never get there."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from test_budget import runs

from workbench.analysis.budget import (
    budget_table,
    cautions,
    reach_events,
    survival_table,
)
from workbench.stats import survival
from workbench.stats.estimates import interval

SAMPLES = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=12)


def of(pairs) -> np.ndarray:
    budget, reached = zip(*pairs, strict=True)
    return survival.sample(np.array(budget, dtype=float), np.array(reached))


def test_a_curve_worked_by_hand():
    # Five runs: reached at 1, stopped at 2, reached at 3, reached at 3, stopped at 4.
    times, left = survival.curve(of([(1, True), (2, False), (3, True), (3, True), (4, False)]))
    assert times.tolist() == [0, 1, 2, 3, 4]
    assert left.tolist() == pytest.approx([1, 0.8, 0.8, 0.8 * 1 / 3, 0.8 * 1 / 3])


@pytest.mark.parametrize(
    ("pairs", "median"),
    [
        ([(1, True), (2, True), (3, True)], 2),
        ([(1, True), (3, True)], 2),  # flat at one half from 1 to 3
        ([(1, True), (3, False)], math.inf),  # half never get there
        ([(1, True), (1, True), (3, False)], 1),
        ([(2, False), (3, True), (4, True)], 3.5),  # censoring thins the runs still on their way
        ([(5, False)] * 4, math.inf),
    ],
)
def test_a_median_worked_by_hand(pairs, median):
    assert float(survival.median(of(pairs))) == median


@given(SAMPLES)
def test_the_median_is_read_off_scipys_curve(pairs):
    runs = of(pairs)
    sf = scipy.stats.ecdf(scipy.stats.CensoredData.right_censored(runs[0], runs[1] == 0)).sf
    grid = np.arange(0, 10, 0.5)
    left = sf.evaluate(grid)
    down_to = grid[left <= 0.5 + 1e-9].min(initial=math.inf)
    below = grid[left < 0.5 - 1e-9].min(initial=math.inf)
    assert float(survival.median(runs)) == pytest.approx((down_to + below) / 2)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_without_censoring_it_is_the_ordinary_median(budgets):
    runs = of([(b, True) for b in budgets])
    assert float(survival.median(runs)) == pytest.approx(np.median(budgets))


def test_a_bootstrap_of_medians_equals_one_median_per_resample():
    runs = of([(k, k % 3 > 0) for k in range(1, 9)])
    draws = np.random.default_rng(0).integers(0, 8, (50, 8))
    together = survival.median(runs[..., draws])
    assert together.tolist() == [float(survival.median(runs[:, d])) for d in draws]


def test_runs_that_never_reach_open_the_interval_and_are_never_dropped():
    sample = of([(k, True) for k in range(1, 6)] + [(9, False)] * 3)
    low, high = interval(sample, survival.median)
    assert low >= 1
    assert high is None
    alone = of([(k, True) for k in range(1, 6)])
    assert float(survival.median(sample)) > float(survival.median(alone))


def arrivals(at: dict[str, list[int | None]], steps: int = 10) -> pl.DataFrame:
    """Runs that jump from 0 to 1 at a step, or never; one rollout per step."""
    curves = {
        name: [[float(a is not None and s >= a) for s in range(steps + 1)] for a in places]
        for name, places in at.items()
    }
    return runs(curves, dict.fromkeys(at, 1))


def test_a_ratio_of_budgets_pairs_runs_by_seed():
    # recast needs half of grpo's budget on each seed, while seeds differ threefold.
    slow = [6, 8, 2, 4, 6, 8, 2, 4, 6, 8]
    frame = arrivals({"grpo": slow, "recast": [s // 2 for s in slow]})
    # Interpolation places the crossing of .999 just before the jump's evaluation.
    row = budget_table(frame, "greedy", "rollouts", "grpo", [1.0]).filter(strategy="recast")
    found = row.row(0, named=True)
    assert found["ratio_to_baseline"] == pytest.approx(0.5)
    assert found["ratio_low"] == pytest.approx(0.5)
    assert found["ratio_high"] == pytest.approx(0.5)
    assert found["share_of_baseline"] == pytest.approx(0.3)  # 3 of the baseline's 10


def test_a_baseline_that_rarely_arrives_leaves_the_ratio_open():
    frame = arrivals({"grpo": [2, None, None, None, None, 2, None], "recast": [1] * 7})
    found = budget_table(frame, "greedy", "rollouts", "grpo", [1.0]).filter(strategy="recast")
    row = found.row(0, named=True)
    assert (row["ratio_to_baseline"], row["ratio_low"], row["ratio_high"]) == (None, None, None)
    shares = row["share_of_baseline"], row["share_low"], row["share_high"]
    assert shares == pytest.approx((0.1, 0.1, 0.1))
    assert (row["n_reached"], row["n_runs"]) == (7, 7)


def test_events_and_curves_agree():
    frame = arrivals({"grpo": [4, None, 6], "recast": [2, 2, None]})
    events = reach_events(frame, "greedy", "rollouts", 1.0)
    assert events["budget"].to_list() == pytest.approx([4, 10, 6, 2, 2, 10])
    assert events["reached"].to_list() == [True, False, True, True, True, False]
    steps = survival_table(events).filter(strategy="grpo")
    assert steps["budget"].to_list() == pytest.approx([0, 4, 6, 10])
    assert steps["waiting"].to_list() == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])


def test_a_run_that_turns_into_nan_is_censored_at_all_it_spent():
    frame = runs({"grpo": [[0.0, 0.1, math.nan, math.nan]]}, {"grpo": 10})
    event = reach_events(frame, "greedy", "rollouts", 0.5).row(0, named=True)
    assert (event["budget"], event["reached"], event["spent"]) == (30, False, 30)


def grid(curves, chosen: float, rates=(0.001, 0.003, 0.01), diverged: int | None = None):
    frame = runs(curves, dict.fromkeys(curves, 1))
    return pl.concat(
        frame.with_columns(
            run=pl.col("run") + f"@{rate}",
            lr=pl.lit(rate),
            tuned=pl.lit(rate == chosen),
            diverged_at=pl.lit(diverged, dtype=pl.Int64),
        )
        for rate in rates
    )


def test_a_sound_baseline_raises_no_caution():
    frame = grid({"grpo": [[0.0, 0.2, 0.4]], "recast": [[0.0, 0.1, 0.2]]}, 0.003)
    assert cautions(frame, "greedy", "grpo") == []


def test_a_rate_that_is_the_lowest_is_no_reason_to_ask_for_higher_ones():
    low, high = (grid({"grpo": [[0.0, 0.2, 0.4]]}, rate) for rate in (0.001, 0.01))
    assert "training may not help it" in cautions(low, "greedy", "grpo")[0].text
    assert "extend the grid" in cautions(high, "greedy", "grpo")[0].text


@pytest.mark.parametrize(
    ("frame", "kinds"),
    [
        (grid({"grpo": [[0.5, 0.2, 0.4]]}, 0.003), ["below_start"]),
        (grid({"grpo": [[0.0, 0.2, 0.4]]}, 0.01), ["edge_of_grid"]),
        (grid({"grpo": [[0.0, 0.2, 0.4]]}, 0.001), ["edge_of_grid"]),
        (grid({"grpo": [[0.0, 0.2, 0.4]]}, 0.003, (0.003,)), ["single_rate"]),
        (grid({"grpo": [[0.0, 0.2, 0.4]]}, 0.003, diverged=1), ["diverged"]),
    ],
)
def test_a_baseline_that_cannot_carry_a_ratio_is_named(frame, kinds):
    found = cautions(frame, "greedy", "grpo")
    assert [c.kind for c in found] == kinds
    assert all("grpo" in c.text and "\n" not in c.text for c in found)
