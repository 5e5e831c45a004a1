"""Probability beside the way to a target, against sums over the whole catalogue."""

from __future__ import annotations

import pytest
import torch

from sim.branches import branch_of, masses
from sim.decoding.enumerate import enumerate_logits, item_logp
from sim.policies.linear import Tabular
from sim.policies.mlp import MLP
from sim.worlds.synthetic import SyntheticWorld, build_synthetic

WORLD = build_synthetic(
    SyntheticWorld(
        items=24,
        codes=4,
        sft_prompts=64,
        train_prompts=32,
        validation_prompts=16,
        test_prompts=16,
    )
)


@pytest.mark.parametrize("policy", [MLP(8), Tabular()])
def test_a_child_s_mass_is_that_of_all_items_below_it(policy):
    catalogue, context = WORLD.catalogue, WORLD.test.context[:5]
    params = policy.init(catalogue, context.shape[1], (3,), torch.float64)
    targets = WORLD.test.target[:5].tolist()
    branches = [branch_of(catalogue, target) for target in targets]
    share = item_logp(enumerate_logits(policy, params, catalogue, context)).exp()
    found = masses(policy, params, catalogue, context, branches)
    for prompt, (branch, levels) in enumerate(zip(branches, found, strict=True)):
        own = catalogue.codes[targets[prompt]].tolist()
        above = 1.0
        for level, (codes, place, each) in enumerate(
            zip(branch.codes, branch.place, levels, strict=True)
        ):
            assert codes[place] == own[level]
            for code, mass in zip(codes, each, strict=True):
                prefix = [*own[:level], code]
                below = [
                    float(share[item, prompt])
                    for item, sid in enumerate(catalogue.codes.tolist())
                    if sid[: level + 1] == prefix
                ]
                assert below
                assert mass == pytest.approx(sum(below), rel=1e-6)
            assert sum(each) == pytest.approx(above, rel=1e-6)
            above = each[place]
        assert above == pytest.approx(float(share[targets[prompt], prompt]), rel=1e-6)
