"""Forecasts of a curve's end: planted curves, and what an interval promises."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.stats.growth import FORMS, BudgetCurve, choose, extrapolate, halves, judge

BUDGETS = np.linspace(0.0, 120.0, 13)


def sigmoid(seed: int, noise: float = 0.0) -> BudgetCurve:
    """A sigmoid of its own height and middle."""
    rng = np.random.default_rng(seed)
    top, middle = rng.uniform(0.1, 0.3), rng.uniform(20.0, 40.0)
    values = 0.05 + top / (1 + (middle / np.maximum(BUDGETS, 1e-9)) ** 2.0)
    return BudgetCurve(BUDGETS, values + noise * rng.normal(size=13), f"group {seed % 20}")


def test_a_planted_curve_is_found_again_by_its_own_form():
    values = 0.05 + 0.2 / (1 + (40 * 10**-0.25 / np.maximum(BUDGETS, 1e-9)) ** 2.0)
    seen = BudgetCurve(BUDGETS, values).first(1 / 3)
    assert len(seen.budgets) == 5
    assert extrapolate(seen, BUDGETS[-1:], "sigmoid", 1.0)[0] == pytest.approx(values[-1], abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_expected_of_a_curve_that_stands_still(form):
    seen = BudgetCurve(BUDGETS[:5], np.full(5, 0.3))
    assert extrapolate(seen, BUDGETS[5:], form, 1.0) == pytest.approx(np.full(8, 0.3))


def test_intervals_hold_as_often_as_they_say_on_runs_that_did_not_choose_them():
    runs = [sigmoid(seed, noise=0.004) for seed in range(200)]
    chosen, judged = halves(runs)
    assert not {run.group for run in chosen} & {run.group for run in judged}
    record = judge(choose(chosen, 1 / 3), judged)
    assert record.coverage >= 0.85
    assert record.error < record.naive / 2
    assert record.brier < 0.2


def test_a_higher_target_is_less_likely_and_takes_longer():
    run = sigmoid(99)
    seen = run.first(1 / 3)
    forecaster = choose([sigmoid(seed) for seed in range(40)], 1 / 3).of(seen)
    targets = np.linspace(run.values[4], run.values[-1] * 1.3, 6)
    chances = [forecaster.chance(seen, 120.0, t) for t in targets]
    assert chances == sorted(chances, reverse=True)
    assert 0 < chances[-1] < chances[0] < 1
    reached = [forecaster.budget_to(seen, 120.0, t)[0] for t in targets]
    known = [b for b in reached if b is not None]
    assert known == sorted(known)
    assert reached[-1] is None
    early, late = (forecaster.budget_to(seen, 120.0, targets[1])[i] for i in (1, 2))
    assert early is not None
    assert late is None or early <= known[1] <= late


def test_a_beginning_of_three_points_is_refused():
    with pytest.raises(ValueError, match="3 points; expected 4"):
        extrapolate(BudgetCurve(BUDGETS[:3], np.arange(3.0)), BUDGETS[3:], "power", 1.0)
