"""Every strategy against the loop oracle on wide groups, and the options of each credit."""

import inspect
import math
import random
import statistics
from dataclasses import fields, replace

import oracles
import pytest
import torch
from oracles import Rollout
from rollout_batches import REWARDS, Batch, assert_equals_oracle

from recast import STRATEGIES, RolloutGroups, Strategy, build_signal
from recast.stage import bind
from recast.stages.credit import CREDITS, batch_mean


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
        "grpo_batch": "grpo_batch(1e-4)",
        "bgae": "bgae(4, 1e-6)",
        "rank_penalty": "rank_penalty(1e-4)",
    }
    slot = torch.arange(6).unsqueeze(0)
    for short, full in same.items():
        one, other = (credit(c, reward, matched=slot, beam_rank=slot) for c in (short, full))
        assert torch.equal(one, other), short
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


def test_a_grae_counts_a_lone_rollout_as_a_group_and_shrinks_small_positives_too():
    groups = [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 1.0], [1.0], []]
    expected = oracles.a_grae([[Rollout(r, 0.0, 0.0) for r in group] for group in groups])
    assert 0 < max(expected[0]) < 1
    found = credit(
        "a_grae",
        [group + [0.0] * (4 - len(group)) for group in groups],
        valid=torch.tensor([[i < len(group) for i in range(4)] for group in groups]),
    )
    for values, row in zip(expected, found.tolist(), strict=True):
        assert row == pytest.approx(values + [0.0] * (4 - len(values)), abs=1e-9)


def test_without_a_history_ha_dw_compares_with_the_batch_of_its_own_run():
    reward = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0], [0.0] * 3]])
    found = CREDITS["ha_dw"].function(RolloutGroups.of(reward.double()))
    for run, rows in enumerate(reward.tolist()):
        expected = oracles.ha_dw([[Rollout(r, 0.0, 0.0) for r in row] for row in rows])
        assert torch.allclose(found[run], torch.tensor(expected, dtype=torch.float64))


def test_the_batch_mean_is_over_the_valid_rollouts_of_each_run():
    reward = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]], [[0.0] * 2] * 2])
    valid = torch.tensor([[[True, True], [True, False]], [[False, True], [False] * 2]])
    valid = torch.cat([valid, torch.zeros(1, 2, 2, dtype=torch.bool)])
    mean = batch_mean(RolloutGroups.of(reward, valid=valid))
    assert mean.tolist() == pytest.approx([2 / 3, 1.0, 0.0])


def full_groups(seed, valid, dtype=torch.float64):
    """Binary rewards and every optional input."""
    rng = torch.Generator().manual_seed(seed)
    shape = valid.shape
    return RolloutGroups.of(
        (torch.rand(shape, generator=rng) < 0.5).to(dtype),
        score=torch.rand(shape, generator=rng),
        tie_key=torch.rand(shape, generator=rng),
        length=torch.randint(1, 5, shape, generator=rng),
        entropy=torch.rand(*shape, 4, generator=rng),
        beam_rank=torch.arange(shape[-1]).expand(shape),
        matched=torch.randint(0, 5, shape, generator=rng),
        item=torch.randint(0, 4, shape, generator=rng),
        depth=4,
        logp=-torch.rand(*shape, 4, generator=rng, dtype=dtype),
        codes=torch.randint(0, 2, (*shape, 4), generator=rng),
        prompt=torch.arange(shape[-2]).expand(shape[:-1]),
        valid=valid,
    )


def credit_of(text, groups):
    """A credit of these groups; one that remembers has seen nothing before."""
    found = bind("credit", CREDITS, text)
    return found(groups, state=found.start(groups.reward.shape[:-2], groups.reward.shape[-2]))


@pytest.mark.parametrize("name", sorted(CREDITS))
def test_what_an_unselected_rollout_was_worth_leaks_nowhere(name):
    everyone = torch.ones(3, 6, dtype=torch.bool)
    for seed in range(20):
        groups = full_groups(seed, everyone)
        selected = torch.rand(3, 6, generator=torch.Generator().manual_seed(100 + seed)) < 0.5
        selected[0, 1:] = False
        narrowed = credit_of(name, groups.narrowed(selected))
        blank = full_groups(seed, selected)
        blank = replace(blank, matched=blank.matched.masked_fill(~selected, -100))
        assert torch.equal(narrowed, credit_of(name, blank))
        assert not narrowed[~selected].any()


@pytest.mark.parametrize("name", sorted(CREDITS))
def test_several_runs_get_what_each_of_them_gets_alone(name):
    """No sum runs over another run's rollouts, nor over prompts where a group's is meant."""
    generator = torch.Generator().manual_seed(5)
    valid = torch.rand(3, 4, 6, generator=generator) < 0.7
    groups = full_groups(1, valid)
    together = credit_of(name, groups)
    for run in range(3):
        own = {f.name: getattr(groups, f.name) for f in fields(groups)}
        own |= {k: v[run] for k, v in own.items() if isinstance(v, torch.Tensor)}
        torch.testing.assert_close(together[run], credit_of(name, replace(groups, **own)))


def test_the_smallest_counts_that_divide_are_not_bounded_away():
    two, one_of_three = [[1.0, 0.0]], [[1.0, 0.0, 0.0]]
    assert credit("rloo", two).tolist() == [[1.0, -1.0]]
    gpg = torch.tensor(one_of_three, dtype=torch.float64) - 1 / 3
    torch.testing.assert_close(credit("gpg", one_of_three), 3 * gpg)


def test_an_eps_as_large_as_the_spread_halves_what_care_gives():
    plain, damped = (credit(f"care(eps={eps})", [[1.0, 0.0]]) for eps in (0, 0.5))
    assert plain.any()
    torch.testing.assert_close(damped, plain / 2)


def test_the_weight_of_negatives_reaches_the_tokens_beyond_the_prefix():
    valid = torch.ones(2, 5, dtype=torch.bool)
    whole, half = (
        credit_of(f"sign_beyond_prefix({weight})", full_groups(3, valid)) for weight in (1, 0.5)
    )
    assert whole.lt(0).any()
    assert torch.equal(half, torch.where(whole < 0, whole / 2, whole))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(CREDITS))
def test_a_batch_without_rollouts_gets_exactly_zero_in_its_own_type(name, dtype):
    advantage = credit_of(name, full_groups(0, torch.zeros(3, 6, dtype=torch.bool), dtype))
    assert advantage.shape[:2] == (3, 6)
    assert advantage.dtype == dtype
    assert not advantage.any()


@pytest.mark.parametrize(
    "name", [n for n, s in CREDITS.items() if "eps" in inspect.signature(s.function).parameters]
)
def test_an_eps_of_zero_divides_nothing_by_zero(name):
    slot = torch.arange(4).expand(2, 4)
    for reward in (torch.zeros(2, 4), torch.ones(2, 4)):
        for valid in (None, slot < 3, slot < 1, slot < 0):
            groups = RolloutGroups.of(
                reward,
                valid=valid,
                matched=torch.zeros_like(slot),
                beam_rank=slot,
                depth=2,
                logp=torch.full((2, 4, 2), -0.5),
                codes=torch.zeros(2, 4, 2, dtype=torch.int64),
                prompt=torch.arange(2),
            )
            assert credit_of(f"{name}(eps=0)", groups).isfinite().all()


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("sign_beyond_prefix", {"matched": None}, "needs `matched` and `depth`"),
        ("sign_beyond_prefix", {"depth": 0}, "needs `matched` and `depth`"),
        ("rl_zvp", {"entropy": None}, "needs `entropy`"),
        ("bgae", {"matched": None}, "needs `matched`"),
        ("rank_penalty", {"beam_rank": None}, "needs `beam_rank`"),
    ],
)
def test_a_credit_that_is_called_without_what_it_needs_says_so(name, missing, message):
    groups = full_groups(0, torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=f"^credit={name} {message} in the groups$"):
        CREDITS[name].function(replace(groups, **missing))


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


def test_the_rank_term_alone_and_the_score_are_standardised_by_hand():
    rank = torch.tensor([[0, 1, 2]])
    share = 1 / (rank + 2.0).log2()
    share = (share / share.sum())[0]
    wanted = torch.tensor([-share[0], 0.0, -share[2]])
    found = credit("rank_penalty(hit=0)", [[0.0, 1.0, 0.0]], beam_rank=rank)[0]
    assert found.tolist() == pytest.approx(
        ((wanted - wanted.mean()) / (wanted.std() + 1e-4)).tolist()
    )
    cosine = torch.tensor([-0.5, 0.2, 1.0])
    found = credit("grpo_score(5e-5)", [[0.0, 0.0, 1.0]], score=((1 + cosine) / 2).unsqueeze(0))[0]
    assert found.tolist() == pytest.approx(
        ((cosine - cosine.mean()) / (cosine.std() + 1e-4)).tolist()
    )


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
    padded = RolloutGroups.of(
        torch.nn.functional.pad(reward, (0, 1)),
        length=torch.nn.functional.pad(length, (0, 1)),
        valid=torch.tensor([[True, True, True, False]] * 2),
    )
    assert torch.allclose(CREDITS["reinforce_pp"].function(padded, 0.0)[:, :3], white)
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
            length = torch.arange(1, width + 1).expand(20, width)
            groups = RolloutGroups.of(reward, valid=valid, length=length)
            for name in ("grpo", "dr_grpo", "rloo", "best_of_group", "opo"):
                assert not CREDITS[name].function(groups).any()
            one = RolloutGroups.of(reward[:1].expand(20, width).contiguous(), length=length)
            assert not CREDITS["reinforce_pp"].function(one).any()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("pair", oracles.AROUND_A_MILLIONTH)
def test_a_group_is_constant_up_to_a_millionth_of_its_largest_reward(pair, sign):
    reward = [sign * r for r in pair]
    for valid in (None, torch.tensor([[True, True, False]])):
        row = reward if valid is None else [*reward, 0.0]
        assert credit("dr_grpo", [row], valid=valid).any().item() != oracles.constant(reward)


def test_the_width_of_a_difference_that_counts_is_a_millionth_of_the_rewards():
    for base in (1.0, -1.0, 1000.0):
        near = credit("dr_grpo", [[base, base * (1 + 5e-7)]])
        assert not near.any()
        far = credit("dr_grpo", [[base, base * (1 + 2e-6)]])
        assert far.abs().min() > 0
