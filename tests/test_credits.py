"""Every strategy against the loop oracle on wide groups, and the options of each credit."""

import math
import random
import statistics
from dataclasses import replace

import oracles
import pytest
import torch
from oracles import Rollout
from test_signals import REWARDS, Batch, assert_equals_oracle

from recast import STRATEGIES, RolloutGroups, Strategy, build_signal
from recast.credit import CREDITS


def wide_batch(seed, binary, prompts=4, width=9):
    """Ragged groups of up to nine; now and then one without rollouts, and rare hits in some."""
    rng = random.Random(seed)
    rewards = (0.0, 0.0, 1.0) if binary else REWARDS
    slots = []
    for b in range(prompts):
        keep = rng.choice((0.0, 0.5, 0.9, 1.0)) if b else 0.9
        pool = rng.choice((rewards, rewards, (0.0,), (1.0,), (0.0, 0.0, 0.0, 0.0, 1.0)))
        ranks, keys = rng.sample(range(width), width), rng.sample(range(width), width)
        slots.append(
            [
                Rollout(
                    reward=rng.choice(pool),
                    score=rng.choice((0.0, 0.01, 0.1)),
                    key=keys[i] / 16,
                    length=float(rng.randint(1, 5)),
                    entropy=(rng.random(), rng.random()),
                    rank=ranks[i],
                    matched=rng.randint(0, 6),
                    item=rng.randint(0, 3),
                )
                if rng.random() < keep
                else None
                for i in range(width)
            ]
        )
    return Batch(slots, [rng.random() < 0.8 for _ in range(prompts)])


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_wide_ragged_groups_equal_the_oracle(name):
    strategy = STRATEGIES[name]
    for seed in range(25):
        batch = wide_batch(seed, strategy.needs_binary)
        assert_equals_oracle(name, batch, build_signal(strategy, batch.groups()))


def credit(text, reward, **inputs):
    groups = RolloutGroups.of(torch.tensor(reward, dtype=torch.float64), **inputs)
    return build_signal(Strategy(credit=text), groups).advantage


@pytest.mark.parametrize("k", [1, 2, 3, 5, 8])
def test_pass_at_k_equals_the_counting_formula_at_every_width_and_number_of_hits(k):
    width = 8
    rows, valid = [], []
    for n in range(width + 1):
        for c in range(n + 1):
            rows.append([1.0] * c + [0.0] * (width - c))
            valid.append([i < n for i in range(width)])
    advantage = credit(f"pass_at_k({k})", rows, valid=torch.tensor(valid))
    for row, mask, found in zip(rows, valid, advantage.tolist(), strict=True):
        n = sum(mask)
        expected = oracles.pass_at_k(row[:n], k) if n else []
        assert found == pytest.approx(expected + [0.0] * (width - n), abs=1e-12)


def test_the_credits_have_the_documented_defaults():
    reward = [[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]]
    same = {
        "pass_at_k": "pass_at_k(4)",
        "grpo": "grpo(1e-6, 1)",
        "maxrl": "maxrl(1e-6)",
        "ngrpo": "ngrpo(1e-6)",
        "shortfall": "shortfall(0)",
        "sign": "sign(1)",
        "care": "care(4, 0.5, 1e-6)",
        "best_of_group": "best_of_group(1e-6)",
        "a_grae": "a_grae(1, 1e-6)",
        "ha_dw": "ha_dw(scale=1.5)",
        "reinforce_pp": "reinforce_pp(1e-8)",
    }
    for short, full in same.items():
        assert torch.equal(credit(short, reward), credit(full, reward)), short
    tokens = torch.tensor([[[0.5, 1.0], [2.0, 0.0]]], dtype=torch.float64)
    dead = credit("rl_zvp", [[0.0, 0.0]], entropy=tokens)
    assert torch.allclose(dead, torch.tensor([[[-0.05, 0.0], [0.0, -0.2]]], dtype=torch.float64))
    saturated = credit("rl_zvp(0.3)", [[1.0, 1.0]], entropy=tokens)
    assert torch.allclose(saturated, 0.3 * tokens)


def test_an_eps_stands_beside_the_spread_and_ddof_divides():
    reward = [0.0, 0.0, 1.0, 3.0]
    mean = statistics.fmean(reward)
    for ddof, spread in ((0, statistics.pstdev(reward)), (1, statistics.stdev(reward))):
        found = credit(f"grpo(eps=0.5, ddof={ddof})", [reward])[0].tolist()
        assert found == pytest.approx([(r - mean) / (spread + 0.5) for r in reward])
    best = credit("best_of_group(0.5)", [reward])[0].tolist()
    assert best == pytest.approx([0.0, 0.0, 0.0, 2.0 / (statistics.stdev(reward) + 0.5)])
    assert credit("maxrl(0.25)", [[0.0, 1.0]])[0].tolist() == pytest.approx(
        [-0.5 / 0.75, 0.5 / 0.75]
    )


def test_negative_advantages_alone_are_scaled():
    plain = credit("grpo(ddof=0)", [[0.0, 0.0, 1.0]])[0]
    scaled = credit("care(8, 0.25)", [[0.0, 0.0, 1.0]])[0]
    # Two misses where eight were asked for: everyone counts twice.
    factor = torch.tensor([0.5, 0.5, 2.0], dtype=torch.float64)
    assert torch.allclose(scaled, plain * factor)
    assert credit("sign(0.5)", [[0.0, 1.0]])[0].tolist() == [-0.5, 1.0]
    assert credit("shortfall(0.5)", [[0.25, 2.0, -1.0]])[0].tolist() == [0.125, 1.0, -2.0]


def test_a_grae_shrinks_positives_by_the_batch_level_over_alpha():
    rows = [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0] * 4]
    level = statistics.fmean([0.25, 0.5, 0.0])
    for alpha in (0.1, 0.5, 1.0):
        found = credit(f"a_grae({alpha})", rows)
        for row, values in zip(rows, found.tolist(), strict=True):
            root = math.sqrt(statistics.fmean(row))
            for a, value in zip(oracles.grpo(row), values, strict=True):
                mixed = (1 - level) * 0.5 * a / (1 - root + 1e-6) + level * 0.5 * a / (root + 1e-6)
                shrink = min(1.0, level / alpha) if mixed > 0 else 1.0
                assert value == pytest.approx(mixed * shrink, rel=1e-9)


def test_ha_dw_remembers_ten_batches_and_compares_each_group_with_their_mean():
    strategy, state, means = STRATEGIES["ha_dw"], None, []
    rng = random.Random(0)
    for _ in range(13):
        rows = [[float(rng.random() < 0.4) for _ in range(5)] for _ in range(3)]
        groups = RolloutGroups.of(torch.tensor(rows, dtype=torch.float64))
        signal = build_signal(strategy, groups, state)
        state = signal.state
        expected = oracles.ha_dw([[Rollout(r, 0.0, 0.0) for r in row] for row in rows], means)
        means.append(statistics.fmean([r for row in rows for r in row]))
        assert torch.allclose(signal.advantage, torch.tensor(expected, dtype=torch.float64))
    assert state["history"].tolist() == pytest.approx(means[-10:])


def test_rank_penalty_normalises_the_discount_over_the_valid_beams_only():
    valid = torch.tensor([[True, True, True, False]])
    rank = torch.tensor([[0, 1, 2, 3]])
    found = credit("rank_penalty", [[0.0, 1.0, 0.0, 0.0]], valid=valid, beam_rank=rank)[0]
    share = [1 / math.log2(i + 2) for i in range(3)]
    value = [-share[0] / sum(share), 1.0, -share[2] / sum(share)]
    assert found.tolist() == pytest.approx([*oracles.grpo(value, 1e-4), 0.0], abs=1e-9)
    shifted = credit("rank_penalty(0.5)", [[0.0, 1.0, 0.0, 0.0]], valid=valid, beam_rank=rank)[0]
    assert shifted.tolist() == pytest.approx([*oracles.grpo(value, 0.5), 0.0], abs=1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_whitening_and_scaling_survive_very_small_and_very_large_rewards(scale):
    reward = torch.tensor([[0.0, 1.0, -2.0], [1.0, 1.0, 1.0]]) * scale
    length = torch.tensor([[1, 2, 3], [1, 1, 1]])
    groups = RolloutGroups.of(reward, length=length)
    white = CREDITS["reinforce_pp"].function(groups, 0.0)
    tokens = [
        r
        for r, n in zip(reward.flatten().tolist(), length.flatten().tolist(), strict=True)
        for _ in range(n)
    ]
    unit = [t / scale for t in tokens]
    mean, spread = statistics.fmean(unit), statistics.stdev(unit)
    expected = [(r / scale - mean) / spread for r in reward.flatten().tolist()]
    assert white.flatten().tolist() == pytest.approx(expected, rel=1e-4)
    same = CREDITS["grpo"].function(replace(groups, reward=reward), 0.0)
    assert same[1].tolist() == [0.0] * 3
    assert same[0].tolist() == pytest.approx(oracles.grpo([0.0, 1.0, -2.0], 0.0), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_group_gets_exactly_zero_at_any_width(dtype):
    for width in (2, 3, 7, 31, 100, 1000, 4096):
        value = torch.rand(20, 1, generator=torch.Generator().manual_seed(width), dtype=dtype)
        reward = (value * 100 - 50).expand(20, width).contiguous()
        padded = torch.ones_like(reward, dtype=torch.bool)
        padded[:, ::3] = False
        for valid in (None, padded):
            groups = RolloutGroups.of(reward, valid=valid)
            for name in ("grpo", "dr_grpo", "rloo", "best_of_group"):
                assert not CREDITS[name].function(groups).any()


def test_the_width_of_a_difference_that_counts_is_a_millionth_of_the_rewards():
    for base in (1.0, -1.0, 1000.0):
        near = credit("dr_grpo", [[base, base * (1 + 5e-7)]])
        assert not near.any()
        far = credit("dr_grpo", [[base, base * (1 + 2e-6)]])
        assert far.abs().min() > 0
