"""Slopes of curves against a public implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import theilslopes

from workbench.diagnosis.findings.curves import curve, slope

POINTS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(-4, 4) | st.floats(-1e6, 1e6)),
    min_size=1,
    max_size=40,
    unique_by=lambda point: point[0],
)


@given(POINTS)
def test_the_slope_and_its_interval_are_those_of_scipy(points: list[tuple[int, float]]) -> None:
    one = curve(*zip(*points, strict=True))
    if len(one) < 2:
        assert np.isnan(slope(one).value)
        return
    found = theilslopes(one.value, one.step, alpha=0.95)
    assert slope(one) == pytest.approx(
        (found.slope, found.low_slope, found.high_slope), nan_ok=True
    )


def test_where_steps_and_values_are_tied_the_interval_is_wide() -> None:
    said = slope(curve([0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 5]))
    assert (said.low, said.high) == (0, 5)


def test_a_long_curve_is_thinned_evenly() -> None:
    step = np.arange(2001)
    one = curve(step, 0.5 * step + np.random.default_rng(0).normal(size=len(step)))
    found = theilslopes(one.value[::5], one.step[::5], alpha=0.95)
    assert slope(one) == pytest.approx((found.slope, found.low_slope, found.high_slope))
