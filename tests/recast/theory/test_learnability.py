"""Closed forms against Monte Carlo, the paper's point, and the limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast import REGIMES, STRATEGIES, Strategy
from recast.regimes import beta_regimes, shares_of
from recast.theory.by_hits import sampled_width, why_undefined
from recast.theory.learnability import (
    binomial_pmf,
    expected_signal,
    hit_count_pmf,
    hit_probability,
)

DRAWS = 200_000


def hit_counts(mean: float, cv: float, group: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    total = (1 - mean) / (mean * cv**2) - 1 if cv else math.inf
    p = rng.beta(mean * total, (1 - mean) * total, DRAWS) if cv else np.full(DRAWS, mean)
    return rng.binomial(group, p)


def shares(k: np.ndarray, group: int) -> dict[str, float]:
    saturated = k == group
    masks = (k == 0, (k == 1) & ~saturated, (k > 1) & ~saturated, saturated)
    return {name: float(mask.mean()) for name, mask in zip(REGIMES, masks, strict=True)}


@pytest.mark.parametrize(
    ("mean", "cv", "group"),
    [(0.0054, 0.89, 32), (0.2, 0.0, 4), (0.3, 0.8, 2), (0.1, 2.0, 8), (0.4, 0.5, 1)],
)
def test_beta_regimes_agree_with_monte_carlo(mean, cv, group):
    exact, drawn = beta_regimes(mean, cv, group), shares(hit_counts(mean, cv, group), group)
    assert sum(exact.values()) == pytest.approx(1, abs=1e-12)
    for name in REGIMES:
        error = math.sqrt(exact[name] * (1 - exact[name]) / DRAWS)
        assert abs(exact[name] - drawn[name]) <= 4 * error + 1e-12, name


def test_the_papers_point_is_85_13_2():
    regimes = beta_regimes(0.0054, 0.89, 32)
    assert regimes["all_zero"] == pytest.approx(0.85, abs=0.005)
    assert regimes["single_hit"] == pytest.approx(0.13, abs=0.01)
    assert regimes["multi_hit"] + regimes["saturated"] == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize("group", [1, 2, 3, 32])
def test_no_spread_is_the_binomial_and_a_tiny_spread_is_its_limit(group):
    p = torch.tensor([0.0, 0.0054, 0.5, 1.0])
    exact = [shares_of(row) for row in binomial_pmf(p, group).tolist()]
    assert [sum(one.values()) for one in exact] == pytest.approx([1] * 4, abs=1e-12)
    for i, mean in enumerate(p.tolist()):
        for cv in (0.0, 1e-7 if mean < 1 else 0.0):
            close = beta_regimes(mean, cv, group)
            for name in REGIMES:
                assert close[name] == pytest.approx(exact[i][name], abs=1e-9)


def test_pmf_has_the_mean_that_was_asked_for():
    pmf = hit_count_pmf(0.1, 1.5, 16)
    k = torch.arange(17, dtype=torch.float64)
    assert float(pmf.sum()) == pytest.approx(1, abs=1e-12)
    assert float(pmf @ k) == pytest.approx(1.6, abs=1e-9)


def test_several_targets_hit_with_the_sum_of_their_probabilities():
    targets = torch.tensor([[0.02, 0.03, 0.0], [0.5, 0.25, 0.25]])
    p = hit_probability(targets)
    assert p.tolist() == pytest.approx([0.05, 1.0], abs=1e-7)
    regimes = [shares_of(row) for row in binomial_pmf(p, 4).tolist()]
    rng = np.random.default_rng(12)
    items = rng.choice(3, size=(DRAWS, 4), p=[0.02, 0.03, 0.95])
    drawn = shares((items < 2).sum(1), 4)
    for name in REGIMES:
        assert abs(regimes[0][name] - drawn[name]) <= 0.004, name
    assert regimes[1]["saturated"] == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.integers(1, 200))
def test_a_binomial_sums_to_one_and_has_its_mean(p, group):
    pmf = binomial_pmf(torch.tensor([p], dtype=torch.float64), group)[0]
    assert float(pmf.sum()) == pytest.approx(1, abs=1e-10)
    assert float(pmf @ torch.arange(group + 1.0).double()) == pytest.approx(group * p, abs=1e-8)
    assert float(pmf[0]) == pytest.approx((1 - p) ** group, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"), [("grpo", 4.67), ("recast", 2.0), ("contrast_only", 0.30), ("sft", 0)]
)
def test_sums_of_squared_advantages_at_the_papers_point(name, expected):
    found = expected_signal(name, hit_count_pmf(0.0054, 0.89, 32), 32)
    assert found.square == pytest.approx(expected, abs=0.03)
    assert found.learnable <= 1 + 1e-12


@pytest.mark.parametrize(
    ("name", "expected"),
    [("grpo", 4.82), ("recast", 2.0), ("contrast_only", 0.30), ("repair_only", 32), ("sft", 1)],
)
def test_signal_counts_at_the_papers_point(name, expected):
    count = expected_signal(name, hit_count_pmf(0.0054, 0.89, 32), 32).count
    assert count == pytest.approx(expected, abs=0.03)  # the fit's parameters are rounded


def test_every_strategy_has_a_count_or_a_reason_for_having_none():
    missing = {
        name
        for name, strategy in STRATEGIES.items()
        if not why_undefined(strategy)
        and math.isnan(
            expected_signal(strategy, hit_count_pmf(0.1, 0.5, sampled_width(strategy, 8)), 8).count
        )
    }
    assert missing == {
        "grpo_trl_batch", "reinforce", "reinforce_pp", "reinforce_pp_baseline", "gpg", "a_grae",
        "ha_dw", "spo",
    }  # fmt: skip
    undefined = {name for name, strategy in STRATEGIES.items() if why_undefined(strategy)}
    assert undefined == {
        "rl_zvp", "rank_penalty", "recast_half_repair", "recast_prefix_mask", "lens", "sibling",
        "step_aligned", "gdpo", "gbpo", "prefix_hint", "reinforce_ada", "replay",
    }  # fmt: skip
    assert expected_signal(Strategy(credit="rloo"), hit_count_pmf(0.1, 0.5, 8), 8).count > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hit_count_pmf(0.5, 1.0, 4), "cv: at mean 0.5 expected 0 <= cv < 1"),
        (lambda: hit_count_pmf(1.5, 0.0, 4), "mean: expected"),
        (lambda: hit_count_pmf(0.5, 0.0, 0), "group: expected at least 1"),
        (lambda: binomial_pmf(torch.tensor([2.0]), 4), "p: expected"),
        (lambda: expected_signal("grpo", [1.0], 4), r"pmf: expected \[5\]"),
        (lambda: expected_signal("minionerec_sampling", [1.0] * 5, 4), r"pmf: expected \[7\]"),
        (lambda: hit_probability(torch.tensor([0.9, 0.2])), "sum of at most 1"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
