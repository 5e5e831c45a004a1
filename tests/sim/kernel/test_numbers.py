"""What the kernel computes with: exp, tanh, uniform numbers, and draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy.stats import binom, chisquare, kstest

from sim.kernel import numbers
from sim.kernel.numbers import BLOCK


@njit
def exp_each(x, out):
    for i in range(len(x)):
        out[i] = numbers.exp(x[i])
    return out


@njit
def tanh_each(x, out):
    for i in range(len(x)):
        out[i] = numbers.tanh(x[i], x.dtype.type(1))
    return out


@njit
def count_codes(stream, n, weights, cdf, point, found):
    numbers.draw_codes(stream, n, weights, 0, cdf, point, found)


@njit
def fill_uniforms(key, step, n):
    stream, out = np.zeros(2, np.uint64), np.empty(n)
    numbers.open_stream(stream, key, step)
    numbers.uniforms(stream, n, out)
    return out


@njit
def binomials(key, n, p, times):
    stream, point, found = np.zeros(2, np.uint64), np.empty(8), np.empty(times, np.int64)
    numbers.open_stream(stream, key, 0)
    for i in range(times):
        found[i] = numbers.binomial(stream, n, p, point)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_is_exact_to_a_few_last_bits_and_tanh_to_a_few_of_1(dtype):
    eps = np.finfo(dtype).eps
    least = -80 if dtype is np.float32 else -700
    x = np.concatenate([-np.geomspace(1e-12, -least, 4000), [0.0]]).astype(dtype)
    np.testing.assert_allclose(exp_each(x, x.copy()), np.exp(x), rtol=4 * eps, atol=0)
    x = np.concatenate([x, -x])
    np.testing.assert_allclose(tanh_each(x, x.copy()), np.tanh(x), rtol=0, atol=4 * eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_is_nothing_where_there_is_nothing_and_nan_stays_nan(dtype):
    x = np.array([-np.inf, -1e30, -1e4, np.nan, 0.0], dtype)
    found = exp_each(x, x.copy())
    assert found.tolist()[:3] == [0, 0, 0]
    assert np.isnan(found[3])
    assert found[4] == 1


def test_uniform_numbers_are_uniform_and_streams_of_keys_and_steps_differ():
    found = [fill_uniforms(np.uint64(k), s, 4000) for k, s in ((1, 0), (1, 1), (2, 0), (2**63, 9))]
    for x in found:
        assert x.min() >= 0
        assert x.max() < 1
        assert kstest(x, "uniform").pvalue > 1e-3
        # Neighbours are independent as well.
        assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 4 / 4000**0.5
    assert len({tuple(x[:4]) for x in found}) == 4
    assert max(abs(np.corrcoef(found)[np.triu_indices(4, 1)])) < 4 / 4000**0.5
    assert found[0].tolist() == fill_uniforms(np.uint64(1), 0, 4000).tolist()


@pytest.mark.parametrize(
    ("n", "p"), [(5, 0.3), (32, 0.005), (32, 0.97), (512, 0.5), (BLOCK + 88, 0.02), (4096, 0.4)]
)
def test_hits_are_binomial_for_any_number_of_trials(n, p):
    found = binomials(np.uint64(3), n, p, 4000)
    low, high = int(binom.ppf(0.02, n, p)), int(binom.ppf(0.98, n, p))
    edges = [-1, *sorted({int(x) for x in np.linspace(low, high, min(high - low + 1, 12))}), n]
    law = np.diff(binom.cdf(edges, n, p))
    seen = np.histogram(found, np.array(edges) + 0.5)[0]
    kept = law > 0
    assert seen[~kept].sum() == 0
    assert chisquare(seen[kept], law[kept] / law.sum() * 4000).pvalue > 1e-3


@pytest.mark.parametrize(("p", "hits"), [(0.0, 0), (1.0, 4096), (1e-300, 0)])
def test_what_is_certain_happens(p, hits):
    assert set(binomials(np.uint64(1), 4096, p, 50).tolist()) == {hits}


@settings(max_examples=50, deadline=None)
@given(
    weight=st.lists(st.sampled_from([0.0, 1e-300, 0.3, 0.5, 1.0]), min_size=1, max_size=9),
    n=st.integers(0, 2 * BLOCK + 3),
)
def test_a_draw_inverts_the_cumulative_weights_and_never_takes_what_has_none(weight, n):
    weights = np.array([[0.5, *weight]])
    codes, stream = weights.shape[1], np.array([7, 0], np.uint64)
    found, cdf, point = np.empty(codes, np.int64), np.empty(codes), np.empty(BLOCK)
    count_codes(stream, n, weights, cdf, point, found)
    u = replay(np.array([7, 0], np.uint64), n)
    whole = weights[0].cumsum()
    wanted = np.searchsorted(whole, u * whole[-1], side="right")
    assert found.tolist() == np.bincount(wanted, minlength=codes).tolist()
    assert found.sum() == n
    assert not found[weights[0] == 0].any()


@njit
def replay(stream, n):
    out = np.empty(n)
    numbers.uniforms(stream, n, out)
    return out


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_draws_by_weights_that_are_no_numbers_stay_inside(bad):
    weights = np.array([[0.3, bad, 0.2]])
    for n in (1, 2, 600):
        found, stream = np.full(3, -9), np.array([1, 0], np.uint64)
        count_codes(stream, n, weights, np.empty(3), np.empty(BLOCK), found)
        assert found.sum() == n
        assert (found >= 0).all()
