"""Repair and dropping of a flat, shuffled batch of token ids, as verl samples it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast import STRATEGIES, parse_strategy
from recast.adapters.sampled import described
from recast.adapters.verl_batch import places, refuse, shape_batch

quick = settings(max_examples=40, deadline=None)
DEPTH = 3
TARGET = (5, 6, 7)


@st.composite
def sampled(draw):
    """Labels, responses, outcomes and keys of 1-4 prompts with 2-6 rollouts, in any order."""
    sizes = draw(st.lists(st.integers(2, 6), min_size=1, max_size=4))
    labels = [f"prompt {i}" for i, size in enumerate(sizes) for _ in range(size)]
    labels = draw(st.permutations(labels))
    matched = draw(st.lists(st.integers(0, DEPTH), min_size=len(labels), max_size=len(labels)))
    responses = [
        torch.tensor([*TARGET[:m], *[1] * (DEPTH - m)], dtype=torch.int64) for m in matched
    ]
    keys = torch.tensor(draw(st.permutations(range(len(labels))))) / len(labels)
    outcome = torch.tensor([float(m == DEPTH) for m in matched])
    return labels, responses, outcome, keys, matched


def shaped(strategy, batch):
    labels, responses, outcome, keys, _ = batch
    return shape_batch(
        parse_strategy(strategy), labels, responses, [TARGET] * len(labels), outcome, keys
    )


@quick
@given(batch=sampled())
def test_recast_keeps_one_up_and_one_down_per_prompt_and_repairs_only_dead_ones(batch):
    labels, _, outcome, _, matched = batch
    found = shaped("recast", batch)
    for label in set(labels):
        rows = [i for i, other in enumerate(labels) if other == label]
        hits = [i for i in rows if outcome[i] > 0]
        repaired = [i for i in rows if found.repaired[i]]
        assert len(repaired) == (0 if hits else 1)
        up = [i for i in rows if found.advantage[i] > 0]
        down = [i for i in rows if found.advantage[i] < 0]
        assert [i for i in rows if found.keep[i]] == sorted([*up, *down])
        if len(hits) == len(rows):
            assert not up
            assert not down
            continue
        assert len(up) == len(down) == 1
        assert set(up) <= set(hits or repaired)
        misses = [i for i in rows if i not in (hits or repaired)]
        assert matched[down[0]] == max(matched[i] for i in misses)
        if repaired:
            assert matched[repaired[0]] == min(matched[i] for i in rows)


@quick
@given(batch=sampled(), data=st.data())
@pytest.mark.parametrize("name", ["recast", "repair_only", "grpo", "recast_prefix_mask"])
def test_the_order_in_which_rollouts_arrive_does_not_matter(name, batch, data):
    labels, responses, outcome, keys, matched = batch
    order = data.draw(st.permutations(range(len(labels))))
    other = (
        [labels[i] for i in order],
        [responses[i] for i in order],
        outcome[order],
        keys[order],
        [matched[i] for i in order],
    )
    one, two = shaped(name, batch), shaped(name, other)
    assert torch.allclose(one.advantage[order], two.advantage, atol=1e-6)
    assert torch.equal(one.keep[order], two.keep)
    assert torch.equal(one.repaired[order], two.repaired)


@quick
@given(labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=12))
def test_places_number_groups_as_they_appear_and_rollouts_inside_them(labels):
    group, place = places(labels)
    seen = list(dict.fromkeys(labels))
    assert [seen[g] for g in group.tolist()] == labels
    for i, label in enumerate(labels):
        assert place[i] == labels[:i].count(label)


def test_a_negative_keeps_the_prefix_that_it_shares_with_the_target():
    responses = [torch.tensor(r) for r in ([5, 6, 7], [5, 6, 1], [5, 1, 1])]
    found = shape_batch(
        STRATEGIES["recast_prefix_mask"],
        ["a"] * 3,
        responses,
        [TARGET] * 3,
        torch.tensor([1.0, 0.0, 0.0]),
        torch.tensor([0.1, 0.2, 0.3]),
    )
    assert found.advantage.tolist() == [[1.0] * 3, [0.0, 0.0, -1.0], [0.0] * 3]
    assert found.keep.tolist() == [True, True, False]


def test_what_is_logged_is_the_outcome_before_repair():
    batch = (["a", "a", "b", "b"], [torch.tensor([1, 1, 1])] * 4, torch.zeros(4), torch.rand(4), [])
    metrics = described(shaped("recast", batch).signal)
    assert metrics["recast/all_zero"] == 1.0
    assert metrics["recast/raw_reward"] == 0.0
    assert metrics["recast/repaired"] == 1.0
    assert metrics["recast/update_width"] == 2.0
    mixed = (
        ["a", "a", "a", "b", "b", "c", "c"],
        [torch.tensor([1, 1, 1])] * 7,
        torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]),
        torch.rand(7),
        [],
    )
    metrics = described(shaped("grpo", mixed).signal)
    assert metrics["recast/raw_reward"] == pytest.approx(3 / 7)
    assert metrics["recast/update_width"] == pytest.approx(7 / 3)
    shares = [metrics[f"recast/{name}"] for name in ("all_zero", "single_hit", "saturated")]
    assert shares == pytest.approx([1 / 3] * 3)


def test_a_response_of_another_length_shares_what_it_shares():
    responses = [torch.tensor(r) for r in ([5, 6, 7, 9], [5], [], [9, 5, 6])]
    found = shape_batch(
        STRATEGIES["recast"],
        ["a"] * 4,
        responses,
        [TARGET] * 4,
        torch.tensor([1.0, 0.0, 0.0, 0.0]),
        torch.tensor([0.1, 0.2, 0.3, 0.4]),
    )
    assert found.signal.sampled.matched.tolist() == [[3, 1, 0, 0]]
    assert found.signal.sampled.length.tolist() == [[4, 1, 1, 3]]
    assert found.advantage.tolist() == [1.0, -1.0, 0.0, 0.0]
    by_length = shape_batch(
        STRATEGIES["opo"],
        ["a"] * 2,
        [torch.tensor([1, 1, 1]), torch.tensor([2])],
        [TARGET] * 2,
        torch.tensor([1.0, 0.0]),
        torch.tensor([0.1, 0.2]),
    )
    assert by_length.advantage.tolist() == [0.25, -0.75]


def test_targets_of_several_lengths_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^target_ids: expected one length.*got \[2, 3\]"):
        shape_batch(
            STRATEGIES["recast"],
            ["a", "a"],
            [torch.tensor([1, 1, 1])] * 2,
            [(1, 2, 3), (1, 2)],
            torch.zeros(2),
            torch.rand(2),
        )


def test_one_right_answer_of_a_group_is_written_where_any_is_a_hit():
    """Of two prompts the second has two right answers, one of which was sampled."""
    answers = [[5, 6, 7], [8, 6, 7], [8, 6, 9]]
    responses = [torch.tensor(r) for r in ([5, 1, 1], [8, 6, 1], [1, 1, 1], [8, 6, 9], [8, 1, 1])]
    written = set()
    for draw in (0.0, 0.4, 0.9):
        found = shape_batch(
            STRATEGIES["recast"],
            ["a", "a", "a", "b", "b"],
            responses,
            [answers] * 3 + [answers[1:]] * 2,
            torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]),
            tie_key=torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]),
            aim=torch.tensor([draw, 0.99, 0.99, draw, 0.99]),
        )
        assert found.signal.sampled.matched.tolist() == [[1, 2, 0], [3, 1, 0]]
        assert found.repaired.sum() == 1
        assert len({tuple(answer) for answer in found.target[:3]}) == 1
        assert found.target[3] == found.target[4] in answers[1:]
        written.add(tuple(found.target[int(found.repaired.nonzero())]))
    assert written == set(map(tuple, answers))


class Section(SimpleNamespace):
    def get(self, name, default=None):
        return getattr(self, name, default)


def config(**changes):
    values = {"dynamic": True, "correction": None, "filter": False, "logp": False, "kl": False}
    values |= changes
    return Section(
        actor_rollout_ref=Section(
            actor=Section(use_dynamic_bsz=values["dynamic"]),
            rollout=Section(n=8, calculate_log_probs=values["logp"]),
        ),
        algorithm=Section(
            rollout_correction=values["correction"],
            filter_groups=Section(enable=values["filter"]),
            use_kl_in_reward=values["kl"],
        ),
    )


@pytest.mark.parametrize(
    ("strategy", "changes", "message"),
    [
        ("s_dpo", {}, "supervised=s_dpo.* needs `reference`"),
        ("greso", {}, "cannot do gate=greso"),
        ("visurf", {}, "repair=append"),
        ("dynamic_sampling", {}, "repair=drop_constant"),
        ("luffy", {}, "anchor_ratio=shaped"),
        ("rl_zvp", {}, "needs `entropy`"),
        ("recast", {"filter": True}, "filter_groups"),
        ("recast", {"correction": {"bypass_mode": True}}, "bypass_mode"),
        ("recast", {"logp": True}, "calculate_log_probs"),
        ("recast", {"dynamic": False}, "use_dynamic_bsz"),
        ("recast", {"kl": True}, "use_kl_in_reward"),
        ("select=pods(16)", {}, "needs G >= 16, got G = 8"),
    ],
)
def test_what_the_trainer_cannot_do_is_one_line_before_it_starts(strategy, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        refuse(parse_strategy(strategy), config(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["recast", "grpo", "add_gt", "recast_half_repair", "nsr"])
def test_what_the_trainer_can_do_passes(strategy):
    refuse(parse_strategy(strategy), config())
    if not parse_strategy(strategy).anchors:
        refuse(parse_strategy(strategy), config(logp=True))
