"""Learning signals against slow oracles, over ragged batches whose padding tempts."""

import itertools
import math
import re
from dataclasses import fields, replace
from typing import NamedTuple

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import Rollout

from recast import (
    REGIMES,
    STRATEGIES,
    Origin,
    RolloutGroups,
    Strategy,
    build_signal,
    parse_strategy,
    regime,
)
from recast.loss import on_policy_weight
from recast.stages.credit import CREDITS
from recast.stages.repair import anchor

quick = settings(max_examples=25, deadline=None)
every_strategy = pytest.mark.parametrize("name", sorted(STRATEGIES))
# The last slot is a place, so a strategy that overwrites it is not indifferent to the order.
by_key = pytest.mark.parametrize(
    "name", [n for n, s in STRATEGIES.items() if s.repair != "overwrite_last"]
)
pairs = pytest.mark.parametrize("name", ["recast", "recast_random_negative", "contrast_only"])

REWARDS = (0.0, 0.0, 0.0, 1.0, 1.0, 0.1, 0.5, 2.0, -1.0)
ENTROPIES = ((0.0, 0.0), (1.0, 0.5), (0.25, 2.0))
EXTRAS = list(itertools.product((1.0, 2.0, 4.0), ENTROPIES, range(4), range(3)))
SCORES = (0.0, 0.0, 0.001, 0.01, 0.1, 0.5, 1.0)
TEMPTING = Rollout(9.0, 0.9, -9.0, length=50.0, entropy=(7.0, 9.0), rank=0, matched=3, item=0)
POISON = Rollout(math.nan, math.nan, math.nan, math.nan, (math.nan, math.nan))
BLANK = Rollout(reward=0.0, score=0.0, key=0.0)


# Pass@4 needs groups of 4, or 5 where each stands against the others; the widest subset of 8 is
# everyone in groups of 8.
LEAST_WIDTH = {"pass_at_k": 4, "bgae": 4, "pods": 8, "pkpo": 5}


class Batch(NamedTuple):
    """Slots `[B][G]`, None where there is no rollout; keys are unique inside a group."""

    slots: list[list[Rollout | None]]
    has_target: list[bool]

    @property
    def ragged(self):
        return [[rollout for rollout in row if rollout is not None] for row in self.slots]

    def groups(self, padding=TEMPTING, dtype=torch.float64):
        filled = [[padding if r is None else r for r in row] for row in self.slots]

        def column(name, kind=dtype):
            return torch.tensor([[getattr(r, name) for r in row] for row in filled], dtype=kind)

        valid = torch.tensor([[r is not None for r in row] for row in self.slots])
        return RolloutGroups.of(
            column("reward"),
            score=column("score"),
            valid=valid,
            tie_key=column("key"),
            has_target=torch.tensor(self.has_target),
            length=column("length"),
            entropy=column("entropy"),
            beam_rank=column("rank", torch.int64),
            matched=column("matched", torch.int64),
            item=column("item", torch.int64),
            depth=4,
            logp=torch.tensor(
                [[[p + r.reward * 0 for p in r.logp] for r in row] for row in filled], dtype=dtype
            ),
            codes=torch.tensor([[r.codes for r in row] for row in filled]),
            prompt=torch.arange(len(filled)),
        )


@st.composite
def batches(draw, shape=None, rewards=REWARDS, full=False, least=1):
    prompts, width = shape or (draw(st.integers(1, 3)), draw(st.integers(1, 6)))
    width += least - 1
    # One number stands for everything that only a few strategies look at.
    rollout = st.tuples(
        st.sampled_from(rewards), st.sampled_from(SCORES), st.integers(0, len(EXTRAS) - 1)
    )
    slot = rollout if full else st.one_of(rollout, rollout, rollout, st.none())
    rows = []
    for _ in range(prompts):
        drawn = draw(st.lists(slot, min_size=width, max_size=width))
        keys, ranks = draw(st.permutations(range(width))), draw(st.permutations(range(width)))
        row = []
        for cell, key, rank in zip(drawn, keys, ranks, strict=True):
            if cell is None:
                row.append(None)
                continue
            reward, score, extra = cell
            length, entropy, matched, item = EXTRAS[extra]
            row.append(Rollout(reward, score, key / 8, length, entropy, rank, matched, item))
        rows.append(row)
    known = st.sampled_from([True, True, True, False])
    return Batch(rows, draw(st.lists(known, min_size=prompts, max_size=prompts)))


def batches_for(name, **more):
    """Batches that a strategy accepts: binary rewards where it counts hits, groups wide enough."""
    rewards = (0.0, 0.0, 1.0) if STRATEGIES[name].needs_binary else REWARDS
    return batches(rewards=rewards, least=LEAST_WIDTH.get(name, 1), **more)


def stack(*many):
    """Runs along a new leading axis."""
    named = [
        f.name for f in fields(RolloutGroups) if isinstance(getattr(many[0], f.name), torch.Tensor)
    ]
    stacked = {n: torch.stack([getattr(g, n) for g in many]) for n in named}
    return RolloutGroups(**stacked, depth=many[0].depth, binary=all(g.binary for g in many))


def signal_of(name, groups):
    return build_signal(STRATEGIES[name], groups)


def assert_same_bits(one, other):
    assert torch.equal(one.advantage, other.advantage)
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.groups.reward, other.groups.reward)
    assert torch.equal(one.groups.score, other.groups.score)
    assert torch.equal(one.groups.origin, other.groups.origin)


def assert_equals_oracle(name, batch, signal):
    advantages, rows = oracles.signal(name, batch.ragged, batch.has_target)
    for b, slots in enumerate(batch.slots):
        real = [i for i, rollout in enumerate(slots) if rollout is not None]
        if len(advantages[b]) > len(real):
            real.append(len(slots))
        padding = [i for i in range(signal.rows.shape[1]) if i not in real]
        assert signal.advantage[b, real].flatten().tolist() == pytest.approx(
            torch.tensor(advantages[b], dtype=torch.float64).flatten().tolist(), abs=1e-9
        )
        assert signal.rows[b, real].tolist() == rows[b]
        assert not signal.advantage[b, padding].any()
        assert not signal.rows[b, padding].any()


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


def test_a_random_pair_without_draws_is_refused():
    with pytest.raises(ValueError, match=r"select=random_pair needs `tie_key`"):
        signal_of("recast_random_negative", RolloutGroups.of(torch.zeros(1, 4)))


@every_strategy
def test_a_name_parses_to_its_registered_strategy(name):
    assert parse_strategy(f" {name} ") is STRATEGIES[name]


@every_strategy
def test_the_text_of_a_strategy_parses_back_to_its_stages(name):
    strategy = STRATEGIES[name]
    labels = {"meaning": "", "source": "", "all_zero": "unstated"}
    assert parse_strategy(strategy.text) == replace(strategy, **labels)


def test_a_wide_pass_at_k_is_refused_by_the_groups_and_not_before():
    strategy = parse_strategy("credit=pass_at_k(20)")
    assert build_signal(strategy, RolloutGroups.of(torch.eye(24))).active.all()
    with pytest.raises(ValueError, match=r"^credit=pass_at_k\(20\) needs G >= 20, got G = 8$"):
        build_signal(strategy, RolloutGroups.of(torch.eye(8)))


def test_a_composition_parses_to_its_stages():
    text = "repair=anchor, select=pair, credit=sign(negative_weight=0.5), supervised=sft(0.1)"
    expected = Strategy(
        repair="anchor",
        select="pair",
        credit="sign(negative_weight=0.5)",
        supervised="sft(0.1)",
    )
    assert parse_strategy(text) == expected
    reward = torch.tensor([[1.0, 0.0]])
    signal = build_signal(expected, RolloutGroups.of(reward))
    assert signal.advantage.tolist() == [[1.0, -0.5]]
    assert signal.count.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("gpro", "did you mean 'grpo'?"),
        ("recats", "did you mean 'recast'?"),
        ("rec\nast", "did you mean 'recast'?"),
        ("zzz", "the nearest is '"),
        ("", "an empty text"),
        ("credits=grpo", "did you mean 'credit'?"),
        ("credit=gpro", "did you mean 'grpo'?"),
        ("repair=anhcor", "did you mean 'anchor'?"),
        ("select=pairs", "did you mean 'pair'?"),
        ("update=some", "not one of all, active"),
        ("denominator=rows", "not one of rollouts, active, tokens, prompts, constant"),
        ("supervised=lots", "supervised: unknown 'lots'"),
        ("supervised=sft(-1)", "supervised: weight=-1 in 'sft(-1)'; expected a number >= 0"),
        ("supervised=sft(nan)", "'nan' in 'sft(nan)' is not a finite number"),
        ("policy_weight=much", "'much' is not a number"),
        ("policy_weight=-1", "expected a weight >= 0"),
        ("anchor_ratio=two", "anchor_ratio: unknown 'two'"),
        ("select=pods(2.5)", "expected a whole number"),
        ("credit=pass_at_k(2.5)", "k=2.5 in 'pass_at_k(2.5)'; expected a whole number"),
        ("credit=bgae(0)", "expected a whole number >= 1"),
        (
            "repair=anchor_share(1.5)",
            "share=1.5 in 'anchor_share(1.5)'; expected a number >= 0 and",
        ),
        ("repair=keep_distinct(0.5)", "factor=0.5 in 'keep_distinct(0.5)'; expected a number >= 1"),
        ("select=positives, credit=grpo", "an advantage of 0"),
        ("select=positives, credit=shortfall", "an advantage of 0"),
        ("select=negatives, credit=rloo", "an advantage of 0"),
        ("credit=none", "learns nothing"),
        ("credit=grpo(epsilon=1)", "grpo takes eps, ddof"),
        ("credit=grpo(1, 2, 3)", "grpo takes eps, ddof"),
        ("credit=rloo(1)", "rloo takes no options"),
        ("credit=grpo(eps=x)", "'x' in 'grpo(eps=x)' is not a number"),
        ("credit=grpo(eps=nan)", "'nan' in 'grpo(eps=nan)' is not a"),
        ("credit=sign(inf)", "'inf' in 'sign(inf)' is not a"),
        ("credit=grpo(eps=1", "cannot read"),
        ("credit=sign, meaning=x", "unknown key 'meaning'"),
    ],
)
def test_a_strategy_that_cannot_be_read_gets_one_line_naming_the_nearest(text, hint):
    with pytest.raises(ValueError, match=re.escape(hint)) as caught:
        parse_strategy(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("credit", sorted(CREDITS))
def test_an_unknown_option_is_refused_by_every_credit(credit):
    with pytest.raises(ValueError, match=f"credit: {credit} takes "):
        Strategy(credit=f"{credit}(nonsense=1)", supervised="sft")
