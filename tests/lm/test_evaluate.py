"""Metric definitions: hand-worked cases and independent re-computation."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast.lm.decode import enumerate_nodes
from recast.lm.evaluate import (
    coverage,
    entropy_curve,
    free_sample_is_invalid,
    from_beams,
    from_probability,
    matched_temperature,
    paired_interval,
    per_prompt,
    tuned_temperatures,
)
from recast.metrics import PASSES


def test_ranking_metrics_by_hand():
    lists = torch.arange(50).expand(7, 50)
    found = from_beams(lists, torch.tensor([0, 1, 4, 9, 10, 49, 50]).unsqueeze(-1))
    assert found["hr_at_1"].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert found["hr_at_5"].tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert found["hr_at_10"].tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert found["recall_at_32"].tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert found["hr_at_50"].tolist() == [1, 1, 1, 1, 1, 1, 0]
    wanted = [1.0, 1 / math.log2(3), 1 / math.log2(6), 1 / math.log2(11), 0, 0, 0]
    assert found["ndcg_at_10"].tolist() == pytest.approx(wanted)


def minionerec_metrics(lists: list[list[int]], targets: list[int], k: int) -> tuple[float, float]:
    """HR@k and NDCG@k as MiniOneRec's evaluator counts them: first place in the list, 1/log2."""
    hit = gain = 0.0
    for listed, target in zip(lists, targets, strict=True):
        if target in listed[:k]:
            hit += 1
            gain += 1 / math.log2(listed.index(target) + 2)
    return hit / len(lists), gain / len(lists)


@given(st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_the_table_equals_an_independent_recomputation(seed):
    setup = tiny.setup(items=14, count=12)
    held = setup.evaluation["test"]
    model = tiny.model("qwen3", setup.vocabulary, seed)
    table, items = per_prompt(model, setup.vocabulary, setup.trie, held, 8, 1.0, [1.0] * 7)
    logp = enumerate_nodes(model, setup.vocabulary, setup.trie, held.prompts).item_logp()
    ranked = logp.argsort(-1, descending=True).tolist()
    for k in (1, 5, 10):
        hr, ndcg = minionerec_metrics(ranked, held.item.tolist(), k)
        assert table[f"hr_at_{k}"].mean().item() == pytest.approx(hr)
        if k == 10:
            assert table["ndcg_at_10"].mean().item() == pytest.approx(ndcg)
    p = logp.exp().gather(1, held.item.unsqueeze(1)).squeeze(1).double()
    assert torch.allclose(table["pass_at_1"], p, atol=1e-5)
    assert torch.allclose(table["pass_at_1_matched"], p, atol=1e-5)
    assert torch.allclose(table["c_at_1"], p, atol=1e-5)
    assert torch.allclose(table["c_at_32"], 1 - (1 - p) ** 32, atol=1e-4)
    shown = {i for row in items[:, :10].tolist() for i in row if i >= 0}
    assert coverage(items, setup.trie.items) == len(shown) / setup.trie.items


def test_probabilities_of_groups_by_hand():
    found = from_probability(torch.tensor([0.5, 0.0]), group=2)
    assert found["all_zero"].tolist() == pytest.approx([0.25, 1.0])
    assert found["single_hit"].tolist() == pytest.approx([0.5, 0.0])
    assert found["saturated"].tolist() == pytest.approx([0.25, 0.0])
    assert found["multi_hit"].tolist() == pytest.approx([0.0, 0.0])
    assert found["pass_at_32"].tolist() == pytest.approx([1 - 0.5**32, 0.0])
    one = from_probability(torch.tensor([0.5]), group=1)
    assert one["saturated"].item() == pytest.approx(0.5)
    assert one["single_hit"].item() == 0.0


def test_the_matched_temperature_gives_the_entropy_that_was_asked_for():
    setup = tiny.setup(items=20)
    curve = entropy_curve(setup.model, setup.vocabulary, setup.trie, setup.prompts[:8])
    wanted = curve(0.7)
    assert curve(0.5) < wanted < curve(1.0)
    assert matched_temperature(curve, wanted) == pytest.approx(0.7, abs=0.01)
    assert matched_temperature(curve, curve(1.0)) == 1.0
    assert math.isnan(matched_temperature(curve, 99.0))
    assert math.isnan(matched_temperature(curve, -1.0))


def test_the_curve_is_read_where_tuning_prompts_say_by_enumeration():
    setup = tiny.setup(items=14, count=12)
    tuning, held = setup.evaluation["validation"], setup.evaluation["test"]
    best = tuned_temperatures(setup.model, setup.vocabulary, setup.trie, tuning)
    nodes = enumerate_nodes(setup.model, setup.vocabulary, setup.trie, tuning.prompts)

    def mean_hit(k: int, temperature: float) -> float:
        p = nodes.item_logp(temperature).gather(1, tuning.item.unsqueeze(1)).double().exp()
        return float((1 - (1 - p) ** k).mean())

    for k, temperature in zip(PASSES, best, strict=True):
        grid = [2.0 ** (i / 2) for i in range(-8, 9)]
        assert mean_hit(k, temperature) >= max(mean_hit(k, t) for t in grid) * (1 - 1e-4)
    table, _ = per_prompt(setup.model, setup.vocabulary, setup.trie, held, 8, 1.0, best)
    mine = enumerate_nodes(setup.model, setup.vocabulary, setup.trie, held.prompts)
    p = mine.item_logp(best[0]).gather(1, held.item.unsqueeze(1)).squeeze(1).double().exp()
    assert torch.allclose(table["c_at_1"], p, atol=1e-5)
    whole = torch.stack([table[f"c_at_{k}"] for k in PASSES])
    assert torch.allclose(table["area"], whole.mean(0))


def test_the_share_of_invalid_free_samples_is_what_the_softmax_says():
    setup = tiny.setup(items=20)
    prompts = setup.prompts[:1]
    many = prompts[torch.zeros(4000, dtype=torch.int64)]
    share = (
        free_sample_is_invalid(setup.model, setup.vocabulary, setup.trie, many, 0).double().mean()
    )
    valid = 0.0
    ids = prompts.ids[0, : prompts.length[0]].tolist()
    with torch.no_grad():
        for codes in setup.trie.codes.tolist():
            path, p = list(ids), 1.0
            for level, code in enumerate(codes):
                token = setup.vocabulary.tokens[level][code]
                logits = setup.model(input_ids=torch.tensor([path])).logits[0, -1]
                p *= torch.softmax(logits, -1)[token].item()
                path.append(token)
            valid += p
    assert share.item() == pytest.approx(1 - valid, abs=0.03)


def test_a_paired_interval_resamples_users_and_not_prompts():
    users = ["a"] * 50 + ["b", "c", "d", "e"]
    difference = torch.tensor([1.0] * 50 + [0.0] * 4)
    mean, low, high = paired_interval(difference, users)
    assert mean == pytest.approx(50 / 54)
    assert low == 0.0  # a third of the resamples leave user a out; none leaves 50 prompts out
    assert high > 0.98
    assert paired_interval(torch.ones(6), list("abcdef"))[1:] == (1.0, 1.0)
