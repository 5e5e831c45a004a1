"""What the boundary of a batch refuses, and what it makes of regimes and tie keys."""

import math

import oracles
import pytest
import torch
from hypothesis import given
from rollout_batches import (
    batches,
    quick,
    signal_of,
)

from recast import (
    REGIMES,
    RolloutGroups,
    regime,
)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["reward", "score", "tie_key"])
def test_a_non_finite_input_on_a_valid_rollout_is_rejected_with_its_index(name, bad):
    inputs = {key: torch.zeros(2, 3) for key in ("reward", "score", "tie_key")}
    inputs[name][1, 2] = bad
    with pytest.raises(ValueError, match=rf"^{name}: NaN or infinite at index \[1, 2\]"):
        RolloutGroups.of(**inputs)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"reward": torch.zeros(2, 3, dtype=torch.int64)}, "reward: expected a floating-point"),
        ({"reward": torch.zeros(3)}, "reward: expected a floating-point"),
        ({"reward": torch.zeros(2, 3), "score": torch.zeros(3)}, "score: expected the shape"),
        ({"reward": torch.zeros(2, 3), "valid": torch.ones(2, 3)}, "valid: expected bool"),
        ({"reward": torch.zeros(2, 3), "score": torch.full((2, 3), 2.0)}, "score: expected struct"),
        ({"reward": torch.zeros(2, 3), "has_target": torch.ones(2)}, "has_target: expected bool"),
    ],
)
def test_a_malformed_batch_is_rejected_at_the_boundary(inputs, message):
    with pytest.raises(ValueError, match=message):
        RolloutGroups.of(**inputs)


def test_an_integer_tie_key_ranks_like_a_float_one():
    reward = torch.tensor([[0.0, 1.0, 0.0]])
    ranks = torch.tensor([[2, 1, 0]])
    groups = RolloutGroups.of(reward, tie_key=ranks)
    assert signal_of("recast", groups).advantage.tolist() == [[0.0, 1.0, -1.0]]


@quick
@given(batch=batches())
def test_regimes_equal_the_oracle(batch):
    groups = batch.groups()
    names = [REGIMES[i] for i in regime(groups.hit, groups.valid).tolist()]
    assert names == [oracles.regime(group) for group in batch.ragged]
