"""Prompts with several targets: what a supervised term sees, and how runs are told apart."""

from __future__ import annotations

import pytest
import torch

from recast import STRATEGIES
from sim.decoding.sample import path_codes, path_logp
from sim.general.runs import Runs
from sim.general.step import account, collect, updates
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.training.trainer import train
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World
from workbench.spec.experiment import Experiment
from workbench.spec.keys import run_config, run_key

TINY = SyntheticWorld(
    items=24, codes=4, task="short_video", sft_prompts=256, train_prompts=256,
    validation_prompts=32, test_prompts=48,
)  # fmt: skip
HOW = Training(steps=3, batch=8, group=6, evaluations=1, curve_prompts=0)
ONE = Training(steps=3, batch=8, group=6, evaluations=1, curve_prompts=0, targets="one")
POLICY = MLP(8)


@pytest.fixture(scope="module")
def world() -> World:
    return build_synthetic(TINY)


def phase(world: World, name: str, how: Training):
    start = POLICY.init(world.catalogue, world.train.context.shape[1], (1,), torch.float64)
    runs = Runs(POLICY, world, STRATEGIES[name], start, (1,), how)
    collected = collect(runs, start, 0, {})
    (loss,) = updates(runs, start, collected, 0.0)
    leaves = {key: value.detach().requires_grad_() for key, value in start.items()}
    return loss(leaves), leaves, collected


def test_supervision_sees_every_target_of_a_prompt_or_the_one_that_was_drawn(world):
    loss, leaves, collected = phase(world, "sft", HOW)
    batch = collected.batch
    assert ((batch.targets >= 0).sum(-1) > 1).any()
    encoded = POLICY.encode(leaves, batch.context)
    by_prompt, drawn = [], []
    for prompt in range(HOW.batch):
        known = [t for t in batch.targets[0, prompt].tolist() if t >= 0]
        each = []
        for target in {*known, batch.target[0, prompt].item()}:
            item = torch.tensor([[[target]]])
            logp = path_logp(POLICY, leaves, world.catalogue, encoded[:, prompt : prompt + 1], item)
            each.append((target, -logp.sum()))
        by_prompt.append(sum(v for t, v in each if t in known) / len(known))
        drawn.append(next(v for t, v in each if t == batch.target[0, prompt]))
    assert loss.item() == pytest.approx((sum(by_prompt) / HOW.batch).item())
    assert phase(world, "sft", ONE)[0].item() == pytest.approx((sum(drawn) / HOW.batch).item())


def test_every_target_that_is_seen_is_a_label_and_a_row_of_the_update(world):
    for how, name in ((HOW, "sft"), (HOW, "grpo_sft"), (ONE, "sft")):
        _, _, collected = phase(world, name, how)
        spent, _ = account(STRATEGIES[name], how, collected, 1)
        targets = (collected.batch.targets >= 0).sum() if how is HOW else HOW.batch
        rows = 0 if collected.signal is None else collected.signal.rows.sum()
        assert spent["labels"].item() == targets
        assert spent["updated_rows"].item() == targets + rows


@pytest.mark.parametrize("name", ["grpo", "recast", "sft_any", "prefix_hint"])
def test_what_has_no_term_of_single_targets_trains_alike_either_way(world, name):
    losses = [phase(world, name, how)[0].item() for how in (HOW, ONE)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["sft", "grpo_sft", "bear", "dpo"])
def test_a_run_that_sees_all_targets_trains_and_is_another_than_one_that_does_not(world, name):
    start = POLICY.init(world.catalogue, world.train.context.shape[1], (1,), torch.float64)
    rate, strategy = torch.tensor([0.02], dtype=torch.float64), STRATEGIES[name]
    rows = [
        train(Runs(POLICY, world, strategy, start, (1,), how), rate)[0].rows[-1]
        for how in (HOW, ONE)
    ]
    assert rows[0]["area"] != rows[1]["area"]


def test_the_codes_on_a_path_are_what_the_policy_may_say_there(world):
    _, leaves, collected = phase(world, "bear", HOW)
    encoded = POLICY.encode(leaves, collected.batch.context)
    items = collected.batch.targets.clamp(min=0)
    codes = path_codes(POLICY, leaves, world.catalogue, encoded, items)
    own = path_logp(POLICY, leaves, world.catalogue, encoded, items)
    assert torch.allclose(codes.exp().sum(-1), torch.ones_like(own))
    chosen = world.catalogue.codes[items].unsqueeze(-1)
    assert torch.allclose(codes.gather(-1, chosen).squeeze(-1), own)


def spec(task: str, targets: str) -> Experiment:
    return Experiment.model_validate(
        {"strategies": ["sft"], "world": {"task": task}, "train": {"targets": targets}}
    )


def test_runs_are_named_after_what_supervision_sees_where_prompts_have_several_targets():
    for task in ("plain", "ad", "label", "interactive"):
        configs = [run_config(spec(task, t), "sft", 0.1, 0) for t in ("all", "one")]
        assert configs[0] == configs[1]
        assert "targets" not in configs[0]["train_spec"]
    for task in ("mixed", "short_video", "product"):
        both = [run_config(spec(task, t), "sft", 0.1, 0) for t in ("all", "one")]
        assert both[0]["train_spec"]["targets"] == "all"
        assert "targets" not in both[1]["train_spec"]
        assert run_key(both[0]) != run_key(both[1])
        assert both[0]["cell"] != both[1]["cell"]
