"""Advantages of rollouts in one row are those of their groups."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recast import STRATEGIES, RolloutGroups, build_signal
from recast.adapters.flat import flat_advantages
from recast.adapters.limits import why_not_estimator

SERVED = [name for name, s in STRATEGIES.items() if why_not_estimator(s) is None]


@given(
    st.sampled_from([n for n in SERVED if n != "pods"]),
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_any_order_of_the_rollouts_gives_each_its_own_advantage(name, hits, rng):
    reward = torch.tensor(hits, dtype=torch.float64)
    groups = RolloutGroups.of(reward, length=torch.ones_like(reward))
    signal = build_signal(STRATEGIES[name], groups)
    wanted = (signal.advantage * signal.rows).flatten()
    order = list(range(reward.numel()))
    rng.shuffle(order)
    # Ties go by place, so the rollouts of a group keep their order.
    order.sort(key=lambda place: place % 4)
    labels = [f"prompt {place // 4}" for place in order]
    found = flat_advantages(name, reward.flatten()[order], labels)
    assert torch.allclose(found, wanted[order])


def test_padding_gets_nothing_and_what_is_more_than_an_advantage_is_refused():
    reward, length = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([2, 2, 0])
    assert flat_advantages("rloo", reward, "aaa", length).tolist() == [1.0, -1.0, 0.0]
    with pytest.raises(ValueError, match="is more than an advantage: it puts the ground truth"):
        flat_advantages("recast", reward, "aaa")
    assert len(SERVED) > 15
