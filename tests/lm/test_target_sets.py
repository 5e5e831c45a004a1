"""Prompts with several right answers: hits, repair, metrics, and the way from RecIF's files."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast import STRATEGIES
from recast.items import Interaction
from recast.lm.evaluate import evaluation_set, from_beams, per_prompt, right_logps
from recast.lm.sft import target_logp
from recast.lm.signal import collect
from recast.lm.trainer import roller
from recast.lm.update import RLTraining
from workbench.real.runs import further_targets
from workbench.studies.prediction.language_models import SMALLEST, LanguageRung
from workbench.studies.prediction.protocol import PredictionPlan

HOW = RLTraining(steps=2, batch=6, group=8)


def with_sets(count: int = 24) -> tuple[list[Interaction], object]:
    """Rows with one to three right answers, and a setup on them."""
    setup = tiny.setup(count=count)
    sids = [tuple(row) for row in setup.trie.codes.tolist()]
    rows = []
    for place, row in enumerate(tiny.interactions(setup.trie, count)):
        others = [sid for sid in sids if sid != row.target][: place % 3]
        rows.append(replace(row, more=tuple(others)))
    held = evaluation_set(
        setup.vocabulary, setup.trie, rows, {"even": [i % 2 == 0 for i in range(count)]}
    )
    more = further_targets(rows, torch.device("cpu"))
    return rows, replace(setup, more=more, evaluation={"test": held, "validation": held})


@settings(max_examples=60)
@given(st.data())
def test_ranking_against_sets_is_that_of_a_slow_loop(data):
    beams = data.draw(st.lists(st.integers(0, 40), min_size=33, max_size=40, unique=True))
    right = data.draw(st.lists(st.integers(0, 45), min_size=1, max_size=4, unique=True))
    padded = [*right, *[-1] * (5 - len(right))]
    found = from_beams(torch.tensor([beams]), torch.tensor([padded]))
    places = [beams.index(item) for item in right if item in beams]
    for k in (1, 5, 10):
        assert found[f"hr_at_{k}"].item() == float(any(p < k for p in places))
    assert found["recall_at_32"].item() == pytest.approx(sum(p < 32 for p in places) / len(right))
    best = sum(1 / math.log2(p + 2) for p in range(len(right)))
    wanted = sum(1 / math.log2(p + 2) for p in places if p < 10) / best
    assert found["ndcg_at_10"].item() == pytest.approx(wanted)


def test_beams_that_ended_early_are_no_right_item():
    found = from_beams(torch.tensor([[3, -1, -1]]), torch.tensor([[5, -1]]))
    assert all(value.item() == 0 for value in found.values())


def test_p_of_a_hit_is_the_sum_over_the_right_items_paths():
    rows, setup = with_sets()
    held = setup.evaluation["test"]
    found = right_logps(setup.model, setup.vocabulary, setup.trie, held, (1.0, 0.5)).exp()
    for place, row in enumerate(rows[:6]):
        alone = [
            evaluation_set(
                setup.vocabulary, setup.trie, [replace(row, target=sid, more=())], {"a": [True]}
            )
            for sid in row.targets
        ]
        each = [
            right_logps(setup.model, setup.vocabulary, setup.trie, one, (1.0, 0.5)).exp()
            for one in alone
        ]
        assert torch.allclose(found[:, place], sum(each)[:, 0], atol=1e-9)
    table, _ = per_prompt(setup.model, setup.vocabulary, setup.trie, held, 8, 1.0, (1.0,) * 7)
    assert torch.allclose(table["pass_at_1"], found[0], atol=1e-6)
    assert len(held.take(torch.tensor([3, 1])).users) == 2
    assert held.take(torch.tensor([3])).right.tolist() == held.right[3:4].tolist()


@pytest.mark.parametrize("strategy", ["grpo", "recast", "sft"])
def test_any_of_the_targets_is_a_hit_and_one_of_them_is_taught(strategy):
    _, setup = with_sets()
    taught: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for step in range(12):
        got = collect(roller(setup, HOW), STRATEGIES[strategy], step, {})
        every = roller(setup, HOW).right
        if got.right is None:
            assert strategy == "sft"
        else:
            signal = got.signal
            sampled = setup.trie.codes[signal.sampled.item]
            equal = (sampled.unsqueeze(2) == got.right.unsqueeze(1)).all(-1).any(-1)
            assert torch.equal(equal, signal.sampled.hit)
            anchored = signal.groups.origin != 0
            for b, g in anchored.nonzero().tolist():
                assert got.codes[b, g].tolist() == got.target[b].tolist()
                assert got.target[b].tolist() in got.right[b].tolist()
        for ids, target in zip(got.prompts.ids.tolist(), got.target.tolist(), strict=True):
            taught.setdefault(tuple(ids), set()).add(tuple(target))
        assert every(torch.tensor([2])).shape == (1, 3, 3)
    # Over the steps more than one of a prompt's targets is taught.
    assert max(map(len, taught.values())) > 1


def test_rows_with_one_target_are_drawn_as_ever():
    setup = tiny.setup()
    plain = roller(setup, HOW)
    index = torch.tensor([4, 0, 7])
    assert torch.equal(plain.aim(index, 3), setup.target[index])
    assert further_targets(tiny.interactions(setup.trie, 3), torch.device("cpu")) is None


def test_a_start_hits_with_any_of_its_targets(tmp_path):
    rows, setup = with_sets()
    rung = LanguageRung(SMALLEST, None, PredictionPlan(), tmp_path, (1e-3,))  # type: ignore[arg-type]
    rung._now = setup
    found = rung.hits()
    for place, row in enumerate(rows):
        targets = [row.target, *row.more]
        prompts = setup.prompts[place : place + 1]
        every = [
            target_logp(setup.model, setup.vocabulary, setup.trie, prompts, torch.tensor([codes]))
            for codes in targets
        ]
        assert found[place] == pytest.approx(float(torch.cat(every).exp().sum()), rel=1e-4)
