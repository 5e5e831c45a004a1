"""Max-T against a loop over flips, and what it promises."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.stats.p_values import aligned, least_p, least_said, max_t, sign_flip_p


def by_loops(rows: list[list[float]]) -> list[float]:
    """Step-down max-T by enumerating every flip, one row after the other."""
    n = len(rows[0])

    def t(row: list[float], signs: tuple[int, ...]) -> float:
        size = math.sqrt(sum(x * x for x in row))
        return abs(sum(s * x for s, x in zip(signs, row, strict=True))) / size if size else 0.0

    plain = (1,) * n
    order = sorted(range(len(rows)), key=lambda i: -t(rows[i], plain))
    p, running = [0.0] * len(rows), 0.0
    for place, i in enumerate(order):
        left = order[place:]
        flips = list(itertools.product((1, -1), repeat=n))
        extreme = sum(
            max(t(rows[j], signs) for j in left) >= t(rows[i], plain) - 1e-9 for signs in flips
        )
        running = max(running, extreme / len(flips))
        p[i] = running
    return p


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 4), st.integers(2, 6))
def test_max_t_equals_a_loop_over_every_flip(seed, m, n):
    rows = np.random.default_rng(seed).normal(0.3, 1, (m, n)).round(2)
    assert max_t(rows) == pytest.approx(by_loops(rows.tolist()))


def test_one_row_is_the_plain_sign_flip_test_and_copies_of_it_cost_nothing():
    d = np.random.default_rng(2).normal(0.5, 1, 9)
    assert max_t([d]) == pytest.approx([sign_flip_p(d)])
    assert max_t([d, 2 * d, -d]) == pytest.approx([sign_flip_p(d)] * 3)


def test_the_least_p_is_that_of_one_row_however_many_there_are():
    d = np.abs(np.random.default_rng(3).normal(1, 0.01, (26, 8)))
    assert max_t(d) == pytest.approx([least_p(8)] * 26)
    assert "none can be below 0.0078" in least_said(8, 26)


def test_the_family_wise_error_is_kept_under_correlated_nulls():
    rng = np.random.default_rng(4)
    false = 0
    for _ in range(400):
        shared = rng.standard_normal((1, 8))
        false += min(max_t(0.7 * shared + rng.standard_normal((6, 8)))) < 0.05
    assert false / 400 <= 0.075


def test_a_pair_that_a_row_lacks_counts_for_nothing():
    rows = aligned([{0: 1.0, 1: 2.0}, {1: -1.0, 2: 3.0}])
    assert np.array_equal(np.isnan(rows), [[False, False, True], [True, False, False]])
    assert max_t(rows) == pytest.approx(by_loops([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]]))
    with pytest.raises(ValueError, match="rows by seeds"):
        max_t([1.0, 2.0])
