"""Learning signals against slow oracles, over ragged batches whose padding tempts."""

import itertools
from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rollout_batches import (
    BLANK,
    LEAST_WIDTH,
    POISON,
    TEMPTING,
    Batch,
    assert_equals_oracle,
    assert_same_bits,
    batches,
    batches_for,
    every_strategy,
    quick,
    signal_of,
    stack,
)

from recast import (
    STRATEGIES,
    Origin,
    RolloutGroups,
    Strategy,
    build_signal,
)
from recast.loss import on_policy_weight
from recast.stages.repair import anchor

# The last slot is a place, so a strategy that overwrites it is not indifferent to the order.
by_key = pytest.mark.parametrize(
    "name", [n for n, s in STRATEGIES.items() if s.repair != "overwrite_last"]
)
pairs = pytest.mark.parametrize("name", ["recast", "recast_random_negative", "contrast_only"])


def test_the_oracle_knows_every_strategy():
    assert oracles.STRATEGIES.keys() == STRATEGIES.keys()


@every_strategy
@quick
@given(data=st.data(), padding=st.sampled_from([TEMPTING, POISON]))
def test_a_padded_batch_equals_the_oracle_group_by_group(name, data, padding):
    batch = data.draw(batches_for(name))
    signal = signal_of(name, batch.groups(padding))
    assert_equals_oracle(name, batch, signal)
    assert signal.supervised == oracles.STRATEGIES[name].supervised


@pytest.mark.parametrize("name", [n for n, s in STRATEGIES.items() if "tie_key" not in s.needs])
@quick
@given(data=st.data())
def test_without_a_tie_key_the_lowest_index_wins(name, data):
    batch = data.draw(batches_for(name))
    plain = [[r and r._replace(key=0.0) for r in row] for row in batch.slots]
    groups = replace(batch.groups(), tie_key=None)
    assert_equals_oracle(name, batch._replace(slots=plain), signal_of(name, groups))


@every_strategy
@quick
@given(data=st.data())
def test_padding_never_leaks(name, data):
    batch = data.draw(batches_for(name))
    reference = signal_of(name, batch.groups(BLANK))
    assert_same_bits(reference, signal_of(name, batch.groups(TEMPTING)))
    assert_same_bits(reference, signal_of(name, batch.groups(POISON)))
    wider = Batch([[None, *row, None] for row in batch.slots], batch.has_target)
    advantage = signal_of(name, wider.groups(TEMPTING)).advantage
    width = len(batch.slots[0])
    kept = [*range(1, width + 1), *range(width + 2, advantage.shape[1])]
    assert torch.allclose(advantage[:, kept], reference.advantage, rtol=0, atol=1e-12)
    assert not advantage[:, [0, width + 1]].any()


@by_key
@quick
@given(data=st.data())
def test_permuting_the_rollouts_permutes_the_signal(name, data):
    batch = data.draw(batches_for(name))
    order = data.draw(st.permutations(range(len(batch.slots[0]))))
    shuffled = Batch([[row[i] for i in order] for row in batch.slots], batch.has_target)
    one, other = signal_of(name, batch.groups()), signal_of(name, shuffled.groups())
    order = [*order, *range(len(order), one.rows.shape[1])]
    assert torch.allclose(one.advantage[:, order], other.advantage, rtol=0, atol=1e-12)
    assert torch.equal(one.rows[:, order], other.rows)
    assert torch.equal(one.groups.origin[:, order], other.groups.origin)


@every_strategy
@quick
@given(data=st.data(), prompts=st.integers(1, 3), width=st.integers(1, 6))
def test_changing_run_0_leaves_run_1_bit_for_bit(name, data, prompts, width):
    same_shape = batches_for(name, shape=(prompts, width))
    before, after, kept = (data.draw(same_shape).groups() for _ in range(3))
    one, other = signal_of(name, stack(before, kept)), signal_of(name, stack(after, kept))
    assert torch.equal(one.advantage[1], other.advantage[1])
    assert torch.equal(one.rows[1], other.rows[1])
    assert torch.equal(one.count[1], other.count[1])
    alone = signal_of(name, kept)
    assert torch.allclose(one.advantage[1], alone.advantage, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo"])
@quick
@given(batch=batches())
def test_a_group_centred_credit_sums_to_zero_in_every_group(name, batch):
    total = signal_of(name, batch.groups()).advantage.sum(-1)
    assert torch.allclose(total, torch.zeros_like(total), atol=1e-9)


@quick
@given(batch=batches())
def test_reinforce_sums_to_zero_over_the_batch(batch):
    assert abs(signal_of("reinforce", batch.groups()).advantage.sum().item()) < 1e-9


@quick
@given(batch=batches(), shift=st.floats(-10, 10))
def test_grpo_ignores_a_shift_of_the_rewards(batch, shift):
    moved = [[r and r._replace(reward=r.reward + shift) for r in row] for row in batch.slots]
    one = signal_of("grpo", batch.groups()).advantage
    other = signal_of("grpo", batch._replace(slots=moved).groups()).advantage
    assert torch.allclose(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@quick
@given(batch=batches(), exponent=st.integers(-30, 30))
def test_grpo_ignores_a_positive_scale_at_eps_zero(dtype, atol, batch, exponent):
    strategy = Strategy(credit="grpo(eps=0)")
    groups = batch.groups(dtype=dtype)
    scaled = replace(groups, reward=groups.reward * 10.0**exponent)
    one, other = build_signal(strategy, groups), build_signal(strategy, scaled)
    assert torch.allclose(one.advantage, other.advantage, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@quick
@given(batch=batches(), exponent=st.integers(-30, 30))
def test_grpo_is_bounded_by_the_largest_z_score_at_any_scale(dtype, batch, exponent):
    groups = batch.groups(dtype=dtype)
    scaled = replace(groups, reward=groups.reward * 10.0**exponent)
    advantage = signal_of("grpo", scaled).advantage
    width = groups.valid.sum(-1, keepdim=True).clamp(min=1)
    assert (advantage.abs() <= (width - 1) / width.sqrt() + 1e-4).all()


@pytest.mark.parametrize("credit", ["grpo", "grpo(eps=0)", "dr_grpo", "rloo"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@quick
@given(value=st.floats(-(2.0**99), 2.0**99, width=32), width=st.integers(1, 40))
def test_a_constant_group_gets_exactly_zero(credit, dtype, value, width):
    groups = RolloutGroups.of(torch.full((2, width), value, dtype=dtype))
    assert build_signal(Strategy(credit=credit), groups).advantage.eq(0).all()


@every_strategy
@quick
@given(width=st.integers(5, 9), dead=st.integers(1, 3))
def test_an_all_zero_group_gets_what_the_strategy_declares(name, width, dead):
    strategy = STRATEGIES[name]
    key = torch.arange(width).expand(dead + 1, -1)
    reward = torch.zeros(dead + 1, width)
    reward[-1, 0] = 1.0
    groups = RolloutGroups.of(
        reward,
        tie_key=key,
        entropy=torch.tensor([1.0, 0.5]).expand(dead + 1, width, 2),
        beam_rank=key,
        matched=(key == 1).to(torch.int64),
        item=key,
        depth=2,
        # The first miss is the one that the policy held least likely.
        logp=-1.0 - (key == 1).to(reward.dtype).unsqueeze(-1).expand(-1, -1, 2),
        codes=torch.stack([(key > 1).to(torch.int64), key], -1),
        prompt=torch.arange(dead + 1),
    )
    strategy = replace(strategy, select=strategy.select.replace("8", "4"))
    signal = build_signal(strategy, groups)
    # A loss that bends advantages may leave such a group silent, whatever its advantages are.
    advantage = on_policy_weight(strategy, signal)
    advantage = advantage.sum(-1) if advantage.ndim == 3 else advantage
    advantage = advantage[:dead]
    if strategy.all_zero == "negative":
        assert (advantage < 0).all()
    elif strategy.all_zero == "anchored":
        assert ((advantage > 0).sum(-1) == 1).all()
        assert ((advantage < 0).sum(-1) >= 1).all()
    elif strategy.all_zero == "shaped":
        assert (advantage[:, 1] > 0).all()
    else:
        assert strategy.all_zero in ("zero", "supervised")
        assert advantage.eq(0).all()
    assert signal.supervised == (strategy.all_zero == "supervised")


@quick
@given(batch=batches())
def test_repair_touches_only_all_zero_groups_with_a_target(batch):
    before = batch.groups()
    after = anchor(before)
    assert torch.equal(after.valid, before.valid)
    for b, group in enumerate(batch.ragged):
        changed = after.origin[b] == int(Origin.ANCHOR)
        slot = oracles.repair_slot(group, batch.has_target[b])
        assert changed.sum() == (slot is not None)
        for name in ("reward", "score", "origin"):
            kept_before, kept_after = getattr(before, name)[b], getattr(after, name)[b]
            assert torch.equal(kept_before[~changed], kept_after[~changed])
        assert after.reward[b][changed].eq(1).all()
        assert after.score[b][changed].eq(1).all()


@quick
@given(batch=batches(rewards=(0.0, -1.0)))
def test_repair_replaces_a_least_informative_slot(batch):
    before = batch.groups()
    slots = anchor(before).origin == int(Origin.ANCHOR)
    for b, group in enumerate(batch.ragged):
        replaced = before.score[b][slots[b]].tolist()
        expected = [min(r.score for r in group)] if group and batch.has_target[b] else []
        assert replaced == expected


@pairs
@quick
@given(batch=batches())
def test_a_pair_is_one_up_one_down_or_nothing(name, batch):
    signal = signal_of(name, batch.groups())
    for row in signal.advantage.tolist():
        assert sorted(filter(None, row)) in ([], [-1.0, 1.0])
    assert torch.equal(signal.rows, signal.advantage != 0)
    assert set(signal.count.tolist()) <= {0, 2}


@pairs
@quick
@given(batch=batches(rewards=(1.0, 0.5, 2.0)))
def test_a_pair_without_a_negative_teaches_nothing(name, batch):
    signal = signal_of(name, batch.groups())
    assert not signal.advantage.any()
    assert not signal.rows.any()


@pairs
def test_an_anchor_that_fills_the_only_slot_has_no_negative(name):
    groups = RolloutGroups.of(torch.zeros(1, 1), tie_key=torch.zeros(1, 1))
    assert not signal_of(name, groups).advantage.any()


@every_strategy
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_rewards_give_finite_advantages(name, dtype):
    strategy = STRATEGIES[name]
    values = [0.0, 1.0] if strategy.needs_binary else [0.0, 1.0, 1e30, -1e30, 1e-30, 1e-38]
    narrow = {
        "select": "pods(1)" if strategy.select.startswith("pods") else strategy.select,
        "credit": f"{strategy.credit.split('(')[0]}(1)"
        if name in LEAST_WIDTH and name != "pods"
        else strategy.credit,
    }
    variants = [replace(strategy, **narrow)]
    if strategy.credit == "grpo":
        variants.append(replace(strategy, **narrow | {"credit": "grpo(eps=0)"}))
    for variant, value, width in itertools.product(variants, values, (1, 2, 7)):
        reward = torch.full((3, width), value, dtype=dtype)
        reward[1, 0] = 0.0
        reward[2] = 0.0
        key = torch.arange(width).expand(3, -1)
        groups = RolloutGroups.of(
            reward,
            tie_key=key,
            entropy=torch.ones(3, width, 2, dtype=dtype),
            beam_rank=key,
            matched=torch.zeros_like(key),
            item=key,
            depth=2,
            logp=torch.full((3, width, 2), -1.0, dtype=dtype),
            codes=key.unsqueeze(-1).expand(-1, -1, 2),
            prompt=torch.arange(3),
        )
        if variant.least_group > width:
            with pytest.raises(
                ValueError, match=f"needs G >= {variant.least_group}, got G = {width}"
            ):
                build_signal(variant, groups)
            continue
        assert build_signal(variant, groups).advantage.isfinite().all(), (value, width)


def test_a_random_pair_without_draws_is_refused():
    with pytest.raises(ValueError, match=r"select=random_pair needs `tie_key`"):
        signal_of("recast_random_negative", RolloutGroups.of(torch.zeros(1, 4)))
