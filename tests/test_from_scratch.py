"""The simulation in one file gives the simulator's own numbers, step by step."""

from __future__ import annotations

import ast
import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from recast import STRATEGIES, Origin, RolloutGroups, build_signal, denominator
from recast.structure import level_scores
from sim.general.runs import Runs
from sim.general.step import collect, updates
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.training.trainer import Hooks, train
from sim.training.warm_start import StartRequest, warm_start
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World

FILE = Path(__file__).parents[1] / "examples" / "simulate_from_scratch.py"
SMALLER = {"ITEMS": 300, "WIDTH": 24, "B": 12, "G": 16}
SIZES = (1024, 1024, 100)
POLICY = MLP(24)
METHODS = ("grpo", "recast", "sft")


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_from_scratch", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    for name, value in SMALLER.items():
        setattr(module, name, value)
    return module


@pytest.fixture(scope="module")
def world() -> World:
    sft, train_, test = SIZES
    return build_synthetic(
        SyntheticWorld(
            items=300,
            sft_prompts=sft,
            train_prompts=train_,
            validation_prompts=8,
            test_prompts=test,
            seed=3,
        )
    )


@pytest.fixture(scope="module")
def plain_world(plain):
    return plain.make_world(3, SIZES)


@pytest.fixture(scope="module")
def start(world):
    return warm_start(POLICY, world, (1,), StartRequest(0.85, 16)).params


@pytest.fixture(scope="module")
def plain_start(plain, plain_world):
    return plain.warm_start(plain_world, 1)


def test_it_is_short_and_imports_nothing_of_this_project():
    source = FILE.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 200
    imported = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import)]
    taken = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imported for alias in node.names} | {n.module for n in taken}
    assert names == {"hashlib", "sys", "collections.abc", "dataclasses", "numpy", "torch"}


def test_it_builds_the_simulator_s_world(world, plain_world):
    assert torch.equal(plain_world.codes, world.catalogue.codes)
    assert torch.equal(plain_world.node, world.catalogue.places)
    alive = plain_world.child >= 0
    assert torch.equal(~alive, world.catalogue.dead)
    assert torch.equal(plain_world.child[alive], world.catalogue.follow[alive])
    for split in ("sft", "train", "test"):
        context, target = plain_world.users[split]
        assert torch.equal(target, getattr(world, split).target)
        torch.testing.assert_close(context, getattr(world, split).context, rtol=0, atol=1e-12)


def test_its_warm_start_ends_at_the_simulator_s_parameters(start, plain_start):
    for name, value in start.items():
        torch.testing.assert_close(plain_start[name].detach(), value[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["grpo", "recast"])
def test_its_signals_are_the_library_s_on_random_groups(plain, name):
    """Advantages and divisors to 1e-12, and the very slot that the anchor overwrites."""
    rng = random.Random(0)
    for _ in range(100):
        prompts, group = rng.randint(1, 5), rng.choice([2, 3, 8, 32])
        levels = [0, 1, 2, 3] if rng.random() < 0.7 else [0, 0, 1]
        matched = torch.tensor([[rng.choice(levels) for _ in range(group)] for _ in range(prompts)])
        ties = torch.tensor([[rng.random() for _ in range(group)] for _ in range(prompts)])
        ties = ties.double()
        item = torch.arange(prompts * group).view(prompts, group)
        target = torch.full((prompts,), -7)
        groups = RolloutGroups.of(
            (matched == 3).double(),
            score=level_scores(3, torch.float64)[matched],
            tie_key=ties,
        )
        signal = build_signal(STRATEGIES[name], groups)
        divisor = denominator(signal, STRATEGIES[name].denominator, length=3)
        learned, advantage, by = getattr(plain, name)(item, matched, ties, target)
        torch.testing.assert_close(advantage, signal.advantage, rtol=0, atol=1e-12)
        assert float(divisor) == by
        anchored = signal.groups.origin == int(Origin.ANCHOR)
        assert torch.equal(learned == -7, anchored)
        assert torch.equal(learned[~anchored], item[~anchored])


@pytest.mark.parametrize("name", METHODS)
def test_one_step_has_the_simulator_s_loss_and_gradient(plain, world, plain_world, start, name):
    """From the same parameters and draws: the loss to 1e-12 and each gradient to 1e-9 of
    its value."""
    how, strategy = Training(steps=10, batch=12, group=16), STRATEGIES[name]
    runs = Runs(POLICY, world, strategy, start, (1,), how)
    collected = collect(runs, start, 4, {})
    (loss_of,) = updates(runs, start, collected, 0.4)
    leaves = {key: value.detach().requires_grad_() for key, value in start.items()}
    ours = loss_of(leaves)
    slopes = torch.autograd.grad(ours.sum(), list(leaves.values()))

    policy = {key: value[0].clone().requires_grad_() for key, value in start.items()}
    theirs = plain.loss_at(policy, plain_world, getattr(plain, name), 1, 4)
    theirs.backward()
    if name != "sft":  # the simulator's is -log p, with the same gradient
        torch.testing.assert_close(theirs.detach(), ours.detach()[0], rtol=0, atol=1e-12)
    for (key, leaf), slope in zip(policy.items(), slopes, strict=True):
        torch.testing.assert_close(leaf.grad, slope[0], rtol=1e-9, atol=1e-14, msg=key)
    assert any(bool(slope.abs().sum() > 0) for slope in slopes)


@pytest.mark.parametrize("name", METHODS)
def test_its_curve_is_the_simulator_s(plain, world, plain_world, start, plain_start, name):
    """Each in its own world, from its own start: every point of the curve to 1e-5 of its value
    (the simulator evaluates in float32), and the curve moves."""
    how = Training(steps=40, batch=12, group=16, evaluations=10, curve_prompts=0)
    rate = torch.tensor([0.003], dtype=torch.float64)
    hooks = Hooks(record=lambda *_: None)
    (run,) = train(Runs(POLICY, world, STRATEGIES[name], start, (1,), how), rate, hooks)
    rows = [r for r in run.rows if r["split"] == "test" and r["slice"] == "all"]
    curve = plain.train(plain_world, plain_start, getattr(plain, name), 40, 1, 0.003)
    assert [point[0] for point in curve] == [row["step"] for row in rows]
    for (_, pass_at_1, all_zero), row in zip(curve, rows, strict=True):
        assert pass_at_1 == pytest.approx(row["pass_at_1"], rel=1e-5)
        assert all_zero == pytest.approx(row["all_zero"], rel=1e-5)
    assert curve[-1][1] != pytest.approx(curve[0][1], rel=0.02)


def test_it_runs_as_a_program_and_prints_a_curve_per_method():
    done = subprocess.run(
        [sys.executable, str(FILE), "10"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    points = re.findall(r"^(\w+) +(\d+)  (0\.\d{4}) ", done.stdout, re.MULTILINE)
    assert [(name, step) for name, step, _ in points] == [
        (name, str(step)) for name in METHODS for step in range(11)
    ]
    assert len({value for _, step, value in points if step == "0"}) == 1
