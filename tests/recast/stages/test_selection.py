"""Each selection with an option against a slow statement of it, over ragged groups with ties."""

import math
import random
import statistics
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast import RolloutGroups
from recast.stages.selection import boundary_pair, near_misses, negatives, pods, random_pair

quick = settings(max_examples=60, deadline=None)


@st.composite
def ragged(draw, rewards=(0.0, 0.0, 1.0, 0.5, -1.0)):
    """Two runs of three groups of up to seven rollouts, unique keys, few distinct values."""
    width = draw(st.integers(1, 7))
    shape = (2, 3, width)
    count = math.prod(shape)

    def column(values):
        drawn = draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))
        return torch.tensor(drawn).reshape(shape)

    keys = torch.tensor([draw(st.permutations(range(width))) for _ in range(6)]).reshape(shape)
    reward = column(rewards).double()
    return RolloutGroups.of(
        reward,
        score=torch.where(reward > 0, 1.0, column((0.0, 0.01, 0.1)).double()),
        valid=column((True, True, True, False)),
        tie_key=keys.double() / 8,
    )


def each_group(groups, keyed):
    """Index, slots, rewards, scores and ranks in a tie of each group, as plain lists."""
    for place in [(r, b) for r in range(2) for b in range(3)]:
        slots = [i for i, real in enumerate(groups.valid[place].tolist()) if real]
        rank = groups.tie_key[place].tolist() if keyed else list(range(groups.valid.shape[-1]))
        yield place, slots, groups.reward[place].tolist(), groups.score[place].tolist(), rank


def without_keys(groups, keyed):
    return groups if keyed else replace(groups, tie_key=None)


def chosen(mask):
    return [i for i, taken in enumerate(mask.tolist()) if taken]


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("m", [1, 2, 3, 5])
@quick
@given(groups=ragged())
def test_pods_keeps_the_best_i_and_the_worst_m_minus_i_whose_variance_is_largest(m, keyed, groups):
    mask = pods(without_keys(groups, keyed), m)
    for place, slots, reward, _, rank in each_group(groups, keyed):
        if len(slots) <= m:
            assert chosen(mask[place]) == slots
            continue
        # Worst first; among equals those that a tie favours stand last.
        order = sorted(slots, key=lambda i: (reward[i], -rank[i]))
        subsets = [order[: m - i] + order[len(order) - i :] for i in range(m + 1)]
        spread = [statistics.pvariance([reward[i] for i in s]) for s in subsets]
        alike = [i for i in range(m + 1) if spread[i] >= max(spread) - 1e-12]
        best = m if m in alike else alike[0]
        assert chosen(mask[place]) == sorted(subsets[best])


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_pods_finds_the_variance_of_very_small_and_very_large_rewards(scale):
    reward = torch.tensor([[0.0, 1.0, 2.0, 10.0]]) * scale
    assert chosen(pods(RolloutGroups.of(reward), 2)[0]) == [0, 3]
    assert chosen(pods(RolloutGroups.of(-reward), 2)[0]) == [0, 3]
    padded = torch.cat([torch.zeros(1, 2), reward, torch.zeros(1, 1)], -1)
    valid = torch.tensor([[False, False, True, True, True, True, False]])
    assert chosen(pods(RolloutGroups.of(padded, valid=valid), 2)[0]) == [2, 5]


def test_what_a_repair_dropped_does_not_move_the_choice_of_pods():
    groups = RolloutGroups.of(torch.tensor([[0.0, 3.0, 4.0, 5.0, 1e9]], dtype=torch.float64))
    kept = replace(groups, valid=groups.reward < 10)
    assert chosen(pods(kept, 3)[0]) == [0, 2, 3]


@pytest.mark.parametrize(("share", "kept"), [(0.9, [0, 1, 4]), (1.1, [0, 3, 4])])
def test_pods_calls_spreads_alike_up_to_a_millionth_of_m_deviations_squared(share, kept):
    m, reward = 3, [0.0, 0.1, 0.9, 0.9, 1.0]
    largest = max(abs(r - statistics.fmean(reward)) for r in reward)
    # The squared differences of 0, x and 1 sum to 2 x^2 - 2 x + 2, whose slope at .9 is 1.6.
    reward[3] += share * 1e-6 * (m * largest) ** 2 / 1.6
    groups = RolloutGroups.of(torch.tensor([reward], dtype=torch.float64))
    assert chosen(pods(groups, m)[0]) == kept


@pytest.mark.parametrize("offset", [1e8, -1e8])
def test_pods_is_not_fooled_by_what_all_rewards_share(offset):
    reward = torch.tensor([[0.0, 3.0, 4.0, 5.0, 1e9], [0.0, 7.0, 8.0, 9.0, 9.0]]).double() + offset
    valid = torch.tensor([[True, True, True, True, False], [True] * 5])
    mask = pods(RolloutGroups.of(reward, valid=valid), 3)
    assert chosen(mask[0]) == [0, 2, 3]
    assert chosen(mask[1]) == [0, 3, 4]


def test_among_many_equal_rewards_pods_and_near_misses_follow_the_order_of_ties():
    width = 64
    reward = torch.zeros(1, width, dtype=torch.float64)
    reward[0, 40:] = 1.0
    groups = RolloutGroups.of(reward, score=torch.full_like(reward, 0.1))
    assert chosen(pods(groups, 4)[0]) == [38, 39, 40, 41]
    assert chosen(near_misses(groups, 3)[0]) == [0, 1, 2, 40]


def test_when_two_subsets_vary_alike_pods_keeps_the_best_alone_or_else_fewer_of_them():
    four = torch.tensor([[0.0, 0.0, 2.0, 2.0]], dtype=torch.float64)
    assert chosen(pods(RolloutGroups.of(four), 3)[0]) == [0, 2, 3]
    six = torch.tensor([[0.0, 0.0, 0.0, 2.0, 2.0, 2.0]], dtype=torch.float64)
    assert chosen(pods(RolloutGroups.of(six), 3)[0]) == [1, 2, 3]
    lone = torch.tensor([[0.0, 0.1, 0.7]], dtype=torch.float64)
    assert chosen(pods(RolloutGroups.of(lone), 1)[0]) == [2]


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("k", [1, 2, 4])
@quick
@given(groups=ragged())
def test_near_misses_are_the_strongest_hit_and_the_k_misses_with_the_largest_score(
    k, keyed, groups
):
    mask = near_misses(without_keys(groups, keyed), k)
    for place, slots, reward, score, rank in each_group(groups, keyed):
        hits = sorted((i for i in slots if reward[i] > 0), key=lambda i: (-reward[i], rank[i]))
        misses = sorted((i for i in slots if reward[i] <= 0), key=lambda i: (-score[i], rank[i]))
        expected = sorted(hits[:1] + misses[:k]) if hits and misses else []
        assert chosen(mask[place]) == expected


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("m", [0, 1, 3])
@quick
@given(groups=ragged())
def test_negatives_are_all_misses_or_the_m_that_a_tie_favours(m, keyed, groups):
    mask = negatives(without_keys(groups, keyed), m)
    for place, slots, reward, _, rank in each_group(groups, keyed):
        misses = sorted((i for i in slots if reward[i] <= 0), key=lambda i: rank[i])
        assert chosen(mask[place]) == sorted(misses[:m] if m else misses)


@quick
@given(groups=ragged())
def test_a_random_pair_ignores_the_score(groups):
    mask = random_pair(groups)
    for place, slots, reward, _, rank in each_group(groups, keyed=True):
        hits = sorted((i for i in slots if reward[i] > 0), key=lambda i: (-reward[i], rank[i]))
        misses = sorted((i for i in slots if reward[i] <= 0), key=lambda i: rank[i])
        assert chosen(mask[place]) == (sorted([hits[0], misses[0]]) if hits and misses else [])


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("rewards", [(0.0, 1.0), (0.0, 0.5, 1.0)])
def test_a_pair_is_the_best_hit_and_the_miss_of_the_largest_score_by_key_then_index(rewards, keyed):
    rng = random.Random(0)
    width, prompts = 5, 40
    reward = [[rng.choice(rewards) for _ in range(width)] for _ in range(prompts)]
    score = [[rng.choice((0.0, 0.1)) for _ in range(width)] for _ in range(prompts)]
    keys = [rng.sample(range(width), width) for _ in range(prompts)]
    groups = RolloutGroups.of(
        torch.tensor(reward), score=torch.tensor(score), tie_key=torch.tensor(keys) / 8
    )
    mask = boundary_pair(without_keys(groups, keyed))
    for b in range(prompts):
        rank = keys[b] if keyed else list(range(width))
        hits = [i for i in range(width) if reward[b][i] > 0]
        misses = [i for i in range(width) if reward[b][i] <= 0]
        expected = []
        if hits and misses:
            best = min(hits, key=lambda i: (-reward[b][i], rank[i]))
            expected = sorted([best, min(misses, key=lambda i: (-score[b][i], rank[i]))])
        assert chosen(mask[b]) == expected


def test_the_options_have_the_documented_defaults():
    reward = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 0.5]])
    groups = RolloutGroups.of(reward, score=torch.tensor([[1.0, 0.3, 0.2, 0.1, 0.0, 0.5]]))
    assert chosen(near_misses(groups)[0]) == [0, 1, 2]
    assert chosen(negatives(groups)[0]) == [1, 2, 3, 4]
    assert pods(groups).sum().item() == 2
