"""What each repair writes into a group, slot by slot and input by input."""

import itertools
from dataclasses import fields, replace

import oracles
import pytest
import torch

from recast import Origin, RolloutGroups
from recast.stage import bind
from recast.stages.repair import (
    REPAIRS,
    anchor,
    anchor_share,
    anchored,
    append,
    drop_constant,
    keep_distinct,
    none,
    overwrite_last,
)

POLICY, ANCHOR = int(Origin.POLICY), int(Origin.ANCHOR)
NEVER = torch.iinfo(torch.int16).max


def groups(reward, **inputs):
    return RolloutGroups.of(torch.tensor(reward, dtype=torch.float64), **inputs)


def full(reward, **changes):
    """Groups that carry every optional input."""
    shape = torch.tensor(reward).shape
    slot = torch.arange(shape[-1]).expand(shape)
    inputs = {
        "score": (slot + 1) / 10,
        "tie_key": slot / 8,
        "length": slot + 1,
        "entropy": (slot.double() + 1).unsqueeze(-1) * torch.tensor([1.0, 0.5]),
        "beam_rank": slot,
        "matched": slot % 3,
        "item": slot + 100,
    }
    return groups(reward, **(inputs | changes))


def test_no_repair_returns_the_groups_themselves():
    before = full([[0.0, 1.0]])
    assert none(before) is before


def test_an_anchor_replaces_what_the_slot_said_about_its_rollout():
    before = full([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    after = anchor(before)
    assert after.origin.tolist() == [[ANCHOR, POLICY, POLICY], [POLICY] * 3]
    assert after.reward.tolist() == [[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]
    assert after.score[0].tolist() == pytest.approx([1.0, 0.2, 0.3])
    assert after.score[1].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert after.matched.tolist() == [[NEVER, 1, 2], [0, 1, 2]]
    assert after.item.tolist() == [[-1, 101, 102], [100, 101, 102]]
    assert torch.equal(after.valid, before.valid)
    assert anchored(after).tolist() == [True, False]


def test_an_anchor_over_a_large_reward_is_worth_exactly_one():
    before = groups([[1e30, 0.1]], has_target=torch.tensor([True]), hit_threshold=1e31)
    assert anchor(before).reward.tolist() == [[1.0, 0.1]]
    assert overwrite_last(groups([[0.3, 1e30]])).reward.tolist() == [[0.3, 1.0]]


def test_the_least_informative_slot_follows_score_then_key_then_index():
    score = torch.tensor([[0.3, 0.1, 0.1, 0.1]])
    keys = torch.tensor([[0.0, 0.5, 0.2, 0.9]])
    for key, slot in ((None, 1), (keys, 2)):
        after = anchor(groups([[0.0] * 4], score=score, tie_key=key))
        assert (after.origin[0] == ANCHOR).nonzero().flatten().tolist() == [slot]
    ragged = torch.tensor([[True, False, False, True]])
    after = anchor(groups([[0.0] * 4], score=score, valid=ragged))
    assert (after.origin[0] == ANCHOR).nonzero().flatten().tolist() == [3]


def test_the_last_valid_slot_is_overwritten_in_every_group_that_has_a_target():
    valid = torch.tensor([[True, True, False], [True, True, True], [False] * 3])
    known = torch.tensor([True, False, True])
    before = full([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0] * 3], valid=valid, has_target=known)
    after = overwrite_last(before)
    assert after.origin.tolist() == [[POLICY, ANCHOR, POLICY], [POLICY] * 3, [POLICY] * 3]
    assert after.reward.tolist() == [[1.0, 1.0, 0.0], [0.0] * 3, [0.0] * 3]
    assert after.matched[0].tolist() == [0, NEVER, 2]
    assert after.item[0].tolist() == [100, -1, 102]
    everywhere = overwrite_last(groups([[0.0, 0.0], [1.0, 0.0]]))
    assert everywhere.origin.tolist() == [[POLICY, ANCHOR]] * 2


def test_the_slot_that_is_overwritten_is_the_last_valid_one_of_any_group():
    masks = list(itertools.product([False, True], repeat=3))
    after = overwrite_last(groups([[0.0] * 3] * len(masks), valid=torch.tensor(masks)))
    for mask, origin in zip(masks, after.origin.tolist(), strict=True):
        last = max((i for i in range(3) if mask[i]), default=None)
        assert origin == [ANCHOR if i == last else POLICY for i in range(3)]


@pytest.mark.parametrize(
    "integer", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64]
)
@pytest.mark.parametrize("real", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(REPAIRS))
def test_a_repair_keeps_the_type_of_every_input(name, real, integer):
    slot = torch.arange(4).expand(3, 4)
    before = RolloutGroups.of(
        torch.tensor([[0.0] * 4, [0.0, 1.0, 0.0, 0.0], [0.0] * 4], dtype=real),
        valid=slot < torch.tensor([[4], [3], [0]]),
        tie_key=(slot / 8).to(real),
        length=slot + 1,
        entropy=torch.ones(3, 4, 2),
        beam_rank=slot.to(integer),
        matched=(slot % 3).to(integer),
        item=slot.to(integer),
        logp=torch.full((3, 4, 2), -0.5, dtype=real),
        codes=slot.to(integer).unsqueeze(-1).expand(-1, -1, 2),
        prompt=torch.arange(3, dtype=integer),
    )
    repair = bind("repair", REPAIRS, name)
    state = repair.start((), 3)
    # A repair that remembers has seen every prompt hit before.
    state |= repair.carry(replace(before, reward=torch.ones_like(before.reward)), state=state)
    after = repair(before, state=state)
    tensors = [f.name for f in fields(before) if torch.is_tensor(getattr(before, f.name))]
    assert {n: getattr(after, n).dtype for n in tensors} == {
        n: getattr(before, n).dtype for n in tensors
    }
    if name in ("anchor", "overwrite_last"):
        # An anchor matches every code, however deep the IDs are.
        assert (after.matched[after.origin == ANCHOR] >= torch.iinfo(torch.int8).max).all()
        assert (after.item[after.origin == ANCHOR] == -1).all()
    if repair.stage.start is not None:
        assert not torch.equal(after.origin, before.origin)


def test_an_appended_anchor_ranks_behind_beams_held_in_bytes():
    rank = torch.arange(200).unsqueeze(0)
    before = RolloutGroups.of(torch.zeros(1, 200), beam_rank=rank.to(torch.uint8))
    after = REPAIRS["append"].function(before)
    assert after.beam_rank[0, -1] == 200 == 1 + after.beam_rank[0, :-1].max()


def test_an_appended_ground_truth_fills_every_input_of_its_slot():
    valid = torch.tensor([[True, True, False], [True, True, True]])
    before = full([[0.0, 0.5, 0.0], [1.0, 0.0, 0.0]], valid=valid)
    after = append(before)
    last = {name: getattr(after, name)[:, -1].tolist() for name in ("valid", "origin", "score")}
    assert last == {"valid": [True] * 2, "origin": [ANCHOR] * 2, "score": [1.0] * 2}
    assert after.tie_key[:, -1].tolist() == [torch.finfo(after.tie_key.dtype).max / 2] * 2
    assert after.length[:, -1].tolist() == [2.0, 3.0]
    assert after.entropy[:, -1].tolist() == [[0.0, 0.0]] * 2
    assert after.beam_rank[:, -1].tolist() == [3, 3]
    assert after.matched[:, -1].tolist() == [2, 2]
    assert after.item[:, -1].tolist() == [-1, -1]
    assert not after.binary
    for name in ("reward", "score", "valid", "origin", "tie_key", "length", "matched", "item"):
        assert torch.equal(getattr(after, name)[:, :-1], getattr(before, name))
    assert torch.equal(after.entropy[:, :-1], before.entropy)
    assert anchored(after).all()


def test_a_repair_keeps_the_types_and_an_appended_mean_is_no_longer_binary():
    before = full([[0.0, 1.0], [0.0, 0.0]])
    assert before.binary
    for repair in (anchor, overwrite_last, append):
        after = repair(before)
        assert after.binary == (repair is not append)
        for name in ("reward", "score", "valid", "origin", "matched", "item", "beam_rank"):
            assert getattr(after, name).dtype == getattr(before, name).dtype


def test_an_appended_ground_truth_is_worth_one_until_a_rollout_reaches_one():
    reward = [
        [0.0, 0.0, 0.0],
        [0.0, 0.9, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 2.0, 1.0],
        [-1.0, -2.0, -3.0],
    ]
    own = append(groups(reward)).reward[:, -1]
    assert own.tolist() == pytest.approx([1.0, 1.0, 1 / 3, 1.0, 1.0])
    ragged = torch.tensor([[True, True, False]])
    assert append(groups([[1.0, 0.0, 9.0]], valid=ragged)).reward[0, -1].item() == 0.5


def test_nothing_is_appended_without_a_target_or_without_a_rollout():
    valid = torch.tensor([[True, True], [False, False]])
    before = groups([[0.0, 1.0], [0.0, 0.0]], valid=valid, has_target=torch.tensor([False, True]))
    after = append(before)
    assert after.valid.tolist() == [[True, True, False], [False, False, False]]
    assert after.origin[:, -1].tolist() == [POLICY, POLICY]
    assert after.reward[:, -1].tolist() == [0.0, 0.0]
    assert after.score[:, -1].tolist() == [0.0, 0.0]


def test_appending_keeps_leading_axes_apart():
    reward = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])
    after = append(RolloutGroups.of(reward))
    assert after.reward.tolist() == [[[0.0, 0.0, 1.0]], [[1.0, 1.0, 1.0]]]
    assert after.reward.shape == (2, 1, 3)


@pytest.mark.parametrize(
    ("reward", "stays"),
    [
        ([0.0, 0.0], False),
        ([1.0, 1.0], False),
        ([0.0, 1.0], True),
        ([1.0, 1.0 + 5e-7], False),
        ([1.0, 1.0 + 2e-6], True),
        ([-1.0, -1.0 - 5e-7], False),
        ([-1.0, -1.0 - 2e-6], True),
        ([1e-9, 2e-9], True),
        ([-1.0, 1.0], True),
    ],
)
def test_a_group_without_variance_is_dropped_whole(reward, stays):
    after = drop_constant(groups([reward, [0.0, 1.0]]))
    assert after.valid.tolist() == [[stays] * 2, [True] * 2]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("pair", oracles.AROUND_A_MILLIONTH)
def test_a_difference_of_up_to_a_millionth_of_the_largest_reward_is_no_variance(pair, sign):
    reward = [sign * r for r in pair]
    assert drop_constant(groups([reward])).valid.any().item() != oracles.constant(reward)


def test_padding_does_not_count_as_variance():
    valid = torch.tensor([[True, True, False], [True, True, False]])
    after = drop_constant(groups([[2.0, 2.0, 0.0], [-2.0, -2.0, 0.0]], valid=valid))
    assert not after.valid.any()
    varied = drop_constant(groups([[2.0, 1.0, 0.0]], valid=valid[:1]))
    assert varied.valid.tolist() == [[True, True, False]]


def test_hits_stay_first_then_distinct_misses_then_repeats():
    item = torch.tensor([[7, 7, 7, 8, 9, 9]])
    before = groups([[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]], item=item)
    # 6 / 1.5 = 4: the hit, the first 7, the 8 and the first 9.
    assert keep_distinct(before).valid.tolist() == [[True, False, False, True, True, True]]
    assert keep_distinct(before, 2.0).valid.tolist() == [[True, False, False, True, False, True]]
    assert keep_distinct(before, 1.2).valid.tolist() == [[True, True, False, True, True, True]]
    assert keep_distinct(before, 1.0).valid.all()
    assert keep_distinct(before, 100.0).valid.sum().item() == 1


def test_the_key_says_which_of_two_equal_items_is_the_repeat():
    item = torch.tensor([[7, 7, 8]])
    before = groups([[0.0] * 3], item=item, tie_key=torch.tensor([[0.9, 0.1, 0.5]]))
    assert keep_distinct(before).valid.tolist() == [[False, True, True]]


def test_the_item_that_was_sampled_most_often_comes_first_in_each_round():
    item = torch.tensor([[1, 2, 2, 3, 3, 3]])
    before = groups([[0.0] * 6], item=item)
    assert keep_distinct(before, 6.0).valid.tolist() == [[False, False, False, True, False, False]]
    assert keep_distinct(before, 3.0).valid.tolist() == [[False, True, False, True, False, False]]
    assert keep_distinct(before, 1.2).valid.tolist() == [[True, True, True, True, True, False]]


def test_padding_is_neither_kept_nor_the_original_of_a_repeat():
    valid = torch.tensor([[False, True, True, True]])
    item = torch.tensor([[7, 7, 8, 8]])
    before = groups([[0.0] * 4], item=item, valid=valid)
    assert keep_distinct(before).valid.tolist() == [[False, True, True, False]]


def test_keeping_distinct_items_needs_to_know_the_items():
    with pytest.raises(ValueError, match="keep_distinct needs `item`"):
        keep_distinct(groups([[0.0, 1.0]]))


def test_repairing_a_share_needs_the_draws():
    with pytest.raises(ValueError, match="anchor_share needs `tie_key`"):
        anchor_share(groups([[0.0, 0.0]]))


def test_a_repair_stays_on_its_device():
    before = groups([[0.0, 0.0]])
    moved = RolloutGroups(
        **{
            name: getattr(before, name).to("meta")
            for name in ("reward", "score", "valid", "origin")
        }
    )
    assert overwrite_last(moved).reward.is_meta


def test_a_dead_group_whose_every_rollout_looks_perfect_is_repaired_and_an_empty_one_is_not():
    valid = torch.tensor([[True, True], [False, False]])
    perfect = RolloutGroups.of(torch.zeros(2, 2), score=torch.ones(2, 2), valid=valid)
    assert (anchor(perfect).origin == ANCHOR).tolist() == [[True, False], [False, False]]


def test_half_of_the_dead_groups_are_repaired_by_the_fraction_of_their_keys_sum():
    keys = torch.tensor([[0.2, 0.2], [0.9, 0.7], [0.75, 0.75], [0.1, 0.4]], dtype=torch.float64)
    dead = RolloutGroups.of(torch.zeros(4, 2, dtype=torch.float64), tie_key=keys)
    # The fractions are .4, .6, .5 and .5.
    assert anchored(anchor_share(dead)).tolist() == [True, False, False, False]
    assert anchored(anchor_share(dead, 0.55)).tolist() == [True, False, True, True]
    assert anchored(anchor_share(dead, 0.0)).tolist() == [False] * 4
    assert anchored(anchor_share(dead, 1.0)).tolist() == [True] * 4
    known = torch.tensor([False, True, True, True])
    kept = anchor_share(replace(dead, has_target=known), 1.0)
    assert anchored(kept).tolist() == known.tolist()


def test_uniform_keys_repair_the_share_that_was_asked_for():
    rng = torch.Generator().manual_seed(0)
    keys = torch.rand(20_000, 7, generator=rng, dtype=torch.float64)
    dead = RolloutGroups.of(torch.zeros(20_000, 7, dtype=torch.float64), tie_key=keys)
    repaired = anchor_share(dead, 0.3)
    assert anchored(repaired).double().mean().item() == pytest.approx(0.3, abs=0.012)
    # Which slot is taken does not depend on whether the group was drawn.
    slots = repaired.origin.argmax(-1)[anchored(repaired)]
    counts = torch.bincount(slots, minlength=7).double()
    assert (counts / counts.sum() - 1 / 7).abs().max() < 0.02
