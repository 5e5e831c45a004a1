"""Crossed differences against a slow oracle, and how often they cry wolf with few seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.stats.seeds_by_users import gaps, moderated


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 6))
def test_the_error_adds_what_seeds_and_what_users_vary_each_over_their_number(seed, seeds, users):
    """Of two rows, one pair: nothing is lent."""
    rng = np.random.default_rng(seed)
    names = [f"u{i % users}" for i in range(12)]
    rows = rng.normal(size=(2, seeds, 12))
    (found,) = gaps(rows, names)
    d = rows[0] - rows[1]
    means = [float(np.mean(row)) for row in d]
    between_seeds = sum((m - np.mean(means)) ** 2 for m in means) / (seeds - 1) / seeds
    mean = float(d.mean())
    total = 0.0
    for name in set(names):
        mine = [float(d[:, n].mean()) - mean for n in range(12) if names[n] == name]
        total += sum(mine) ** 2
    between_users = total / 12**2 * users / (users - 1)
    assert found.difference == pytest.approx(mean)
    assert found.error == pytest.approx(np.sqrt(between_seeds + between_users))
    (other,) = gaps(rows[::-1], names)
    assert (other.difference, other.p) == (pytest.approx(-found.difference), pytest.approx(found.p))


@pytest.mark.parametrize(("alike", "most"), [(True, 18), (False, 30)])
def test_rows_that_do_not_differ_are_held_apart_in_at_most_one_of_twenty_families(alike, most):
    """Of 200; in one of ten where some rows are 25 times as noisy as others."""
    rng = np.random.default_rng(0)
    users = [str(i) for i in range(30)]
    size = np.ones(8) if alike else np.geomspace(0.2, 5.0, 8)
    wrong = 0
    for _ in range(200):
        noise = rng.normal(size=(8, 3, 1)) * size[:, None, None] + rng.normal(size=(8, 3, 30))
        wrong += any(g.p_holm < 0.05 for g in gaps(rng.normal(size=(1, 1, 30)) + noise, users))
    assert wrong <= most


def test_a_large_difference_is_found_with_three_seeds_and_never_with_one():
    rng = np.random.default_rng(1)
    users = [str(i) for i in range(200)]
    values = rng.normal(size=(6, 3, 200)) + np.arange(6.0)[:, None, None]
    assert all(g.p_holm < 0.01 for g in gaps(values, users))
    assert all(g.p_holm == 1.0 for g in gaps(values[:, :1], users))


def test_variances_of_one_size_end_near_it_and_lone_ones_stay():
    rng = np.random.default_rng(2)
    drawn = rng.chisquare(2, 400) / 2
    found, freedom = moderated(drawn, 2)
    assert freedom > 50
    assert np.abs(found - 1).max() < 0.3
    same, few = moderated(np.array([0.5, 2.0]), 2)
    assert (same.tolist(), few) == ([0.5, 2.0], 2.0)


def test_users_of_another_number_than_the_prompts_are_refused():
    with pytest.raises(ValueError, match="seeds, 2 prompts"):
        gaps(np.zeros((2, 2, 3)), ["a", "b"])
