"""Users and seeds resampled together, against slow oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workbench.stats.two_way import (
    Draws,
    max_t_of_resamples,
    percentiles,
    rank_correlation,
)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 6), st.booleans())
def test_a_resample_is_the_mean_over_drawn_seeds_and_all_prompts_of_drawn_users(
    seed, seeds, users, sliced
):
    rng = np.random.default_rng(seed)
    names = [f"u{rng.integers(users)}" for _ in range(9)]
    values = rng.normal(size=(2, seeds, 9))
    keep = rng.random(9) < 0.7 if sliced else np.ones(9, bool)
    keep[0] = True
    draws = Draws.of(names, seeds, 5)
    mean, drawn = draws.means(values, keep)
    assert np.allclose(mean, values[:, :, keep].mean((1, 2)))
    known = sorted(set(names))
    for r in range(5):
        pool = [
            values[:, s, n]
            for s in range(seeds)
            for _ in range(int(draws.seeds[r, s]))
            for u, name in enumerate(known)
            for _ in range(int(draws.users[r, u]))
            for n in range(9)
            if names[n] == name and keep[n]
        ]
        if pool:
            assert np.allclose(drawn[:, r], np.mean(pool, 0), atol=1e-5)
        else:
            assert np.isnan(drawn[:, r]).all()


def test_the_spread_is_that_of_users_plus_that_of_seeds():
    rng = np.random.default_rng(0)
    by_seed, by_user = rng.normal(size=(20, 1)), rng.normal(size=(1, 400))
    names = [f"u{i}" for i in range(400)]
    spread = [
        Draws.of(names, 20, 4000).means(np.broadcast_to(part, (20, 400)))[1].var()
        for part in (by_seed, by_user, by_seed + by_user)
    ]
    assert spread[0] == pytest.approx(by_seed.var() / 20, rel=0.1)
    assert spread[1] == pytest.approx(by_user.var() / 400, rel=0.1)
    assert spread[2] == pytest.approx(spread[0] + spread[1], rel=0.1)


def test_equal_rows_differ_by_nothing_in_any_resample():
    values = np.random.default_rng(1).normal(size=(3, 8))
    _, drawn = Draws.of(["a", "b"] * 4, 3, 50).means(np.stack([values, values]))
    assert (drawn[0] == drawn[1]).all()


def test_percentiles_by_hand():
    low, high = percentiles(np.arange(1001.0))
    assert (low, high) == pytest.approx((25.0, 975.0))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 9), min_size=4, max_size=8, unique=True), st.integers(0, 99))
def test_the_rank_correlation_is_spearmans(first, seed):
    one = np.array(first, float)
    two = np.random.default_rng(seed).normal(size=len(one))
    same = (one[:, None].repeat(7, 1), two[:, None].repeat(7, 1))
    found = rank_correlation(one, two, *same)
    assert found.rho == pytest.approx(stats.spearmanr(one, two).statistic)
    assert (found.low, found.high) == pytest.approx((found.rho, found.rho))
    assert found.n == len(one)


def test_equal_rankings_are_no_chance_and_reversed_ones_are_minus_one():
    one = np.arange(9.0)
    found = rank_correlation(one, 2 * one, one[:, None], one[:, None])
    assert found.rho == 1.0
    assert found.p < 0.001
    assert rank_correlation(one, -one, one[:, None], -one[:, None]).rho == pytest.approx(-1.0)


def test_p_values_of_a_table_are_corrected_by_its_largest_resample():
    rng = np.random.default_rng(0)
    size, resamples = np.array([3.5, 2.6, 0.2, 0.0]), 4_000
    drawn = rng.standard_normal((3, resamples)) + size[:3, None]
    drawn = np.concatenate([drawn, np.zeros((1, resamples))])
    found = max_t_of_resamples(size, drawn)
    spread, centre = drawn.std(-1), drawn.mean(-1)
    left = [0, 1, 2]
    expected, before = [1.0] * 4, 0.0
    for place in (0, 1, 2):
        largest = np.max([np.abs(drawn[r] - centre[r]) / spread[r] for r in left], axis=0)
        p = (1 + (largest >= size[place] / spread[place]).sum()) / (1 + resamples)
        before = expected[place] = max(before, p)
        left.remove(place)
    assert found == pytest.approx(expected)
    assert found[0] < 0.01 < found[1] < 0.05 < found[2]


def test_a_row_that_is_there_twice_costs_nothing():
    rng = np.random.default_rng(1)
    drawn = rng.standard_normal((1, 4_000)) + 2.5
    once = max_t_of_resamples(np.array([2.5]), drawn)
    twice = max_t_of_resamples(np.array([2.5, 2.5]), np.repeat(drawn, 2, axis=0))
    assert twice == pytest.approx([once[0]] * 2)


def test_a_slice_without_prompts_has_no_mean_and_no_interval():
    draws = Draws(np.ones((5, 2)), np.ones((5, 3)), np.array([0, 1, 2]))
    mean, drawn = draws.means(np.ones((4, 2, 3)), np.zeros(3, bool))
    assert np.isnan(mean).all()
    assert all(np.isnan(end).all() and end.shape == (4,) for end in percentiles(drawn))
    low, high = percentiles(np.array([1.0, np.nan, 3.0]))
    assert (low, high) == pytest.approx(np.quantile([1.0, 3.0], [0.025, 0.975]))
