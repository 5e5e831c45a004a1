"""The simulator: trie, exact evaluation, warm start, independent runs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from recast import STRATEGIES
from sim.decoding.enumerate import enumerate_logits, item_logp
from sim.decoding.sample import sample
from sim.general.runs import Runs
from sim.policies.mlp import MLP
from sim.seeds import minibatch, uniforms
from sim.settings import Training
from sim.training.trainer import train
from sim.training.warm_start import StartRequest, all_zero_share, warm_start
from sim.worlds.catalogue import build_catalogue
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World

TINY = SyntheticWorld(
    items=24, codes=4, sft_prompts=512, train_prompts=256, validation_prompts=64, test_prompts=64
)


@pytest.fixture(scope="module")
def world() -> World:
    return build_synthetic(TINY)


def test_samples_follow_the_enumerated_probabilities(world):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (1,), torch.float64)
    context = world.test.context[:1].unsqueeze(0)
    n = 20_000
    draws = uniforms((7,), "rollouts", 0, (1, n, 3))
    encoded = policy.encode(params, context)
    items = sample(policy, params, world.catalogue, encoded, draws, 1.0).flatten()
    p = item_logp(enumerate_logits(policy, params, world.catalogue, context[0]))[:, 0].exp()
    counts = torch.bincount(items, minlength=world.catalogue.items)
    error = (p * (1 - p) / n).sqrt()
    assert bool(((counts / n - p).abs() <= 4.5 * error).all())


def test_the_warm_start_meets_the_request_within_a_point(world):
    warm = warm_start(MLP(16), world, (0, 1), StartRequest(0.3, 16, batch=64, lr=0.01))
    share = all_zero_share(MLP(16), warm.params, world, world.train, 16)
    assert bool(((share - 0.3).abs() < 0.01).all())


def test_an_unreachable_warm_start_says_what_was_reached(world):
    with pytest.raises(ValueError, match=r"out of reach; the best after 3 SFT steps was 0\.\d+"):
        warm_start(MLP(4), world, (0,), StartRequest(1e-6, 2, max_steps=3))


@pytest.mark.parametrize("name", ["grpo", "recast", "sft", "recast_random_negative"])
def test_a_run_does_not_depend_on_its_siblings(world, name):
    policy, how = MLP(8), Training(steps=4, batch=8, group=6, evaluations=2)
    start = policy.init(world.catalogue, 24, (0, 1), torch.float64)
    both = train(
        Runs(policy, world, STRATEGIES[name], start, (0, 1), how), torch.tensor([0.1, 0.01])
    )
    alone = {k: v[1:] for k, v in start.items()}
    single = train(Runs(policy, world, STRATEGIES[name], alone, (1,), how), torch.tensor([0.01]))[0]
    for mine, other in zip(single.rows, both[1].rows, strict=True):
        for key, value in mine.items():
            expected = other[key]
            if isinstance(value, float):
                expected = pytest.approx(expected, rel=1e-9)
            assert value == expected, key


def test_a_diverged_run_is_frozen_and_its_sibling_is_untouched(world):
    policy, how = MLP(8), Training(steps=3, batch=8, group=6, evaluations=1)
    start = policy.init(world.catalogue, 24, (0, 1), torch.float64)
    rates = torch.tensor([float("nan"), 0.01])
    bad, good = train(Runs(policy, world, STRATEGIES["sft"], start, (0, 1), how), rates)
    assert bad.diverged_at == 1
    assert good.diverged_at is None
    assert bad.rows[-1]["pass_at_1"] == pytest.approx(
        next(r for r in bad.rows if r["step"] == 0 and r["split"] == bad.rows[-1]["split"])[
            "pass_at_1"
        ]
    )


def test_the_ledger_counts_what_each_strategy_spends(world):
    policy, how = MLP(8), Training(steps=5, batch=8, group=6, evaluations=1)
    start = policy.init(world.catalogue, 24, (0,), torch.float64)

    def last(name: str) -> dict:
        runs = Runs(policy, world, STRATEGIES[name], start, (0,), how)
        return train(runs, torch.tensor([0.01]))[0].rows[-1]

    grpo, recast, sft = last("grpo"), last("recast"), last("sft")
    assert (grpo["rollouts"], grpo["updated_rows"], grpo["labels"]) == (240, 240, 0)
    assert (recast["rollouts"], recast["updated_rows"]) == (240, 80)
    assert 0 < recast["labels"] <= 40
    assert (sft["rollouts"], sft["updated_rows"], sft["labels"]) == (0, 40, 40)


def test_an_epoch_visits_every_prompt_once():
    seen = torch.cat([minibatch((5,), "prompts", step, 4, 12)[0] for step in range(3)])
    assert sorted(seen.tolist()) == list(range(12))


@pytest.mark.parametrize(
    ("codes", "message"),
    [([[0, 1], [0, 1]], "repeated"), ([[0, 4]], "outside the codebook"), ([[-1, 0]], "outside")],
)
def test_a_bad_catalogue_is_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        build_catalogue(np.array(codes), 4)


def test_every_item_is_reachable_in_an_uneven_trie():
    codes = np.array([(0, 0, 0), (1, 2, 3), (1, 2, 1), (3, 0, 0)])
    catalogue = build_catalogue(codes, 4)
    for item, path in enumerate(catalogue.codes.tolist()):
        node = 0
        for here, code in zip(catalogue.levels, path, strict=True):
            node = int(here.next[node, code])
        assert node == item
    assert sum(int(level.mask.sum()) for level in catalogue.levels) == 3 + 3 + 4


def test_ceilings_bound_the_truth_itself(world):
    c = world.ceilings
    assert c["truth_pass_at_1"] <= c["ceiling_pass_at_1"] <= c["ceiling_recall_at_10"] <= 1
    assert replace(world, test=replace(world.test, preference=None)).ceilings == {}
    assert all(len(s) for s in itertools.chain([world.sft, world.train]))
