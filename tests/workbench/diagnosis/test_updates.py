"""Weights that are never updated: a learning rate or a gradient of 0."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workbench.diagnosis.findings.curves import Curve
from workbench.diagnosis.findings.scalars import curves_of_points, examine_scalars
from workbench.diagnosis.findings.updates import LEAST, PART, no_update


def named(points):
    curves = curves_of_points(
        {name: (list(range(1, len(v) + 1)), list(v)) for name, v in points.items()}
    )
    return {one.name: one for one in examine_scalars(curves).findings}


@given(
    st.lists(st.sampled_from([0.0, 1e-6, 3e-4]), min_size=1, max_size=80),
    st.sampled_from(["learning_rate", "grad_norm"]),
)
def test_only_zeros_that_reach_the_end_of_the_run_count(values, name):
    zeros = next((k for k, v in enumerate(reversed(values)) if v), len(values))
    one = Curve(np.arange(len(values), dtype=float), np.array(values))
    assert bool(no_update({name: one})) == (zeros >= max(LEAST, PART * len(values)))


def test_a_gradient_of_zero_is_right_where_all_rewards_are_equal():
    flat = [0.0] * 20
    assert "no_update" in named({"grad_norm": flat, "zero_spread": [0.3] * 20})
    assert "no_update" not in named({"grad_norm": flat, "zero_spread": [1.0] * 20})
    assert "no_update" not in named({"grad_norm": flat, "reward_std": flat})
    assert "no_update" not in named({"grad_norm": flat, "reward_mean": [1.0] * 20})


def test_a_learning_rate_that_was_printed_with_three_digits_says_nothing():
    norm = [0.312, 0.287] * 10
    assert "no_update" not in named({"learning_rate": [0.0] * 20, "grad_norm": norm})
    exact = [0.31234, 0.28712] * 10
    assert "no_update" in named({"learning_rate": [0.0] * 20, "grad_norm": exact})


def test_a_mean_reward_that_is_the_same_to_the_last_digit_is_a_constant_reward():
    length = [211.5312 + step for step in range(20)]
    assert "constant_reward" in named({"reward_mean": [0.0] * 20, "length_mean": length})
    moves = [0.0] * 19 + [1e-9]
    assert "constant_reward" not in named({"reward_mean": moves, "length_mean": length})
    spread = {"reward_std": [0.2] * 20, "length_mean": length}
    assert "constant_reward" not in named({"reward_mean": [0.5] * 20, **spread})
    assert "constant_reward" not in named({"reward_mean": [0.0] * 20, "length_mean": [212.0] * 20})
