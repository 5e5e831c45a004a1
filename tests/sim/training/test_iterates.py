"""Averaged iterates, decaying rates and unlearnable targets, against loops and by hand."""

from __future__ import annotations

import pytest
import torch

from recast import STRATEGIES
from recast.groups import RolloutGroups
from recast.stages.gate import GATES, Visit
from recast.strategies import parse_strategy
from sim.evaluate import metrics
from sim.general.optimizer import Adam
from sim.general.runs import Runs
from sim.general.step import collect, updates
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.training.trainer import Hooks, train
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World
from workbench.spec.experiment import Experiment
from workbench.spec.keys import run_config, run_key

TINY = SyntheticWorld(
    items=24, codes=4, sft_prompts=256, train_prompts=256, validation_prompts=32, test_prompts=48
)
STEPS, RATE = 6, 0.02


@pytest.fixture(scope="module")
def world() -> World:
    return build_synthetic(TINY)


def looped(world: World, name: str, how: Training) -> list[dict[str, torch.Tensor]]:
    """Parameters after each step, by autograd and a plain loop."""
    policy = MLP(8)
    start = policy.init(world.catalogue, 24, (1,), torch.float64)
    runs = Runs(policy, world, STRATEGIES[name], start, (1,), how)
    params, optimizer, found = start, Adam(start), []
    for step in range(STEPS):
        collected = collect(runs, params, step, {})
        (loss,) = updates(runs, params, collected, step / (STEPS - 1))
        leaves = {k: v.detach().requires_grad_() for k, v in params.items()}
        slopes = torch.autograd.grad(loss(leaves).sum(), list(leaves.values()))
        rate = RATE * (1 - step / STEPS) if how.schedule == "linear" else RATE
        grads = dict(zip(leaves, slopes, strict=True))
        params = optimizer.step(params, grads, torch.tensor([rate], dtype=torch.float64))
        found.append(params)
    return found


@pytest.mark.parametrize("name", ["sft", "grpo", "recast"])
@pytest.mark.parametrize("schedule", ["constant", "linear"])
@pytest.mark.parametrize("iterate", ["last", "mean"])
def test_what_is_evaluated_is_the_mean_of_the_last_half_or_the_last(world, name, schedule, iterate):
    how = Training(
        steps=STEPS, batch=8, group=6, evaluations=2, curve_prompts=0, iterate=iterate,
        schedule=schedule,
    )  # fmt: skip
    policy = MLP(8)
    start = policy.init(world.catalogue, 24, (1,), torch.float64)
    rate = torch.tensor([RATE], dtype=torch.float64)
    watched = None if name == "sft" else lambda *_: None  # the path whose draws the loop has
    (run,) = train(
        Runs(policy, world, STRATEGIES[name], start, (1,), how), rate, Hooks(record=watched)
    )
    steps = looped(world, name, how)
    kept = steps[STEPS // 2 :] if iterate == "mean" else steps[-1:]
    mean = {k: torch.stack([one[k] for one in kept]).mean(0) for k in kept[0]}
    (slow,) = metrics(policy, mean, world, world.test, 6, torch.tensor([1.0]))
    row = [r for r in run.rows if r["split"] == "test_all" and r["slice"] == "all"][-1]
    for metric in ("pass_at_1", "area", "entropy", "c_at_32"):
        assert row[metric] == pytest.approx(slow["all"][metric], rel=1e-5)


def test_an_unlearnable_share_of_targets_is_anyones():
    clean, dirty = (
        build_synthetic(SyntheticWorld(**{**vars(TINY), "test_prompts": 4000, "unlearnable": u}))
        for u in (0.0, 0.4)
    )
    own, mixed = clean.test.preference, dirty.test.preference
    assert torch.allclose(mixed, 0.6 * own + 0.4 / 24)
    # Of items that a user hardly ever wants, targets are as many as the uniform share says.
    seldom = own < 1e-3
    share = seldom.gather(1, dirty.test.target.unsqueeze(1)).double().mean().item()
    assert share == pytest.approx(0.4 * seldom.double().mean().item(), abs=0.03)
    assert dirty.ceilings["ceiling_hr_at_10"] < clean.ceilings["ceiling_hr_at_10"] - 0.1


def test_the_new_switches_rename_no_run_at_their_defaults():
    spec = Experiment(strategies=("sft",))
    config = run_config(spec, "sft", 0.001, 0)
    assert not {"iterate", "schedule"} & set(config["train_spec"])
    assert "unlearnable" not in config["world_spec"]
    keys = {run_key(config)}
    for part, changed in (
        ("train", {"iterate": "mean"}), ("train", {"schedule": "linear"}),
        ("world", {"unlearnable": 0.2}),
    ):  # fmt: skip
        other = spec.model_copy(update={part: getattr(spec, part).model_copy(update=changed)})
        keys.add(run_key(run_config(other, "sft", 0.001, 0)))
    assert len(keys) == 4


def test_greso_by_the_mean_skips_sparse_groups_that_greso_keeps():
    """One hit of 32 has mean .031: hard in GRESO's code, no constant group in its paper."""
    reward = torch.zeros(1, 2, 32, dtype=torch.float64)
    reward[0, 0, 0] = 1.0
    groups = RolloutGroups.of(reward)
    visit = Visit(torch.tensor([[0, 1]]), torch.zeros(1, 2, dtype=torch.float64), False)
    everyone = torch.ones(1, 2, dtype=torch.bool)
    for name, runs in (("greso", [0, 1]), ("greso_mean", [1, 1])):
        gate = GATES[name]
        state = gate.carry(visit, groups, everyone, state=gate.start((1,), 2))
        assert state["hard_run"][0].tolist() == runs
    strategy = parse_strategy("gate=greso_mean, credit=grpo")
    assert strategy.gate == "greso_mean"
