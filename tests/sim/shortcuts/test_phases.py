"""Known rollouts: the kernel's optimizer steps against autograd, for the same rollouts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recast import STRATEGIES
from sim.general.general_path import General
from sim.general.runs import Runs
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.shortcuts.phases import Phases
from sim.training.learner import general_path
from sim.worlds.free_decoding import free_world
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World

RECIPE = SyntheticWorld(
    items=37, codes=5, features=7, latent=5, sft_prompts=64, train_prompts=96,
    validation_prompts=8, test_prompts=8,
)  # fmt: skip
HOW = Training(steps=4, batch=8, group=9, evaluations=1)
REFUSED = {name: Phases.why_not(MLP(9), s) for name, s in STRATEGIES.items()}
SERVED = sorted(name for name, reason in REFUSED.items() if reason is None)
OTHER = sorted(set(STRATEGIES) - set(SERVED))
"""Strategies whose loss has another form."""
SELDOM = {"care"}
"""Strategies that find nothing to learn from in these few groups."""


@pytest.fixture(scope="module")
def world() -> World:
    return build_synthetic(RECIPE)


def both(world, name, how, policy=MLP(9), dtype=torch.float64, rate=0.05, steps=3):  # noqa: B008
    """Parameters and counts after some phases, by the kernel and by autograd."""
    start = policy.init(world.catalogue, 7, (3,), dtype)
    found = []
    for kind in (Phases, General):
        run = kind(Runs(policy, world, STRATEGIES[name], start, (3,), how))
        for step in range(steps):
            run.advance(torch.tensor([rate], dtype=torch.float64), step, 1)
        found.append((run.params, run.counted(0), run.diverged_at))
    return start, *found


def check(start, ours, theirs, within=1e-7):
    """Adam makes 1e-8 of a rounding error of 1e-16 where a gradient is no larger than its eps; a
    wrong sign would be as large as the rate."""
    assert ours[1] == theirs[1]
    assert ours[2] == theirs[2] == [None]
    for key, value in theirs[0].items():
        torch.testing.assert_close(ours[0][key], value, rtol=0, atol=within)
    return any(not torch.equal(value, start[key]) for key, value in theirs[0].items())


@pytest.mark.parametrize("mini_batch", [0, 6, 13])
@pytest.mark.parametrize("name", SERVED)
def test_the_kernels_steps_are_those_of_autograd(world, name, mini_batch):
    """At a rate at which ratios leave the clip, with a KL term where there are several steps."""
    how = HOW.model_copy(
        update={"mini_batch": mini_batch, "kl_weight": 0.3 if mini_batch == 6 else 0.0}
    )
    if "beam_rank" in STRATEGIES[name].needs:
        how = how.model_copy(update={"rollouts": "beam"})
    assert check(*both(world, name, how)) or name in SELDOM


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("policy", [MLP(9), Tabular(), LogLinear()], ids=["mlp", "table", "linear"])
def test_every_policy_and_kl_estimator(world, policy, estimator):
    how = HOW.model_copy(update={"mini_batch": 12, "kl_weight": 0.5, "kl_estimator": estimator})
    assert check(*both(world, "grpo", how, policy))


@pytest.mark.parametrize("name", ["grpo", "recast", "chord"])
def test_beams_several_targets_and_free_decoding(world, name):
    check(
        *both(
            world,
            name,
            HOW.model_copy(update={"rollouts": "beam", "mini_batch": 12, "kl_weight": 0.01}),
        )
    )
    several = build_synthetic(replace(RECIPE, task="product"))
    assert several.train.targets is not None
    # A supervised term that sees all targets of a prompt is left to autograd.
    targets = "one" if STRATEGIES[name].learns_from_target else "all"
    check(*both(several, name, HOW.model_copy(update={"mini_batch": 12, "targets": targets})))
    check(*both(free_world(world), name, HOW.model_copy(update={"mini_batch": 12})))


def test_in_float32_up_to_rounding(world):
    start, ours, theirs = both(
        world, "grpo", HOW.model_copy(update={"mini_batch": 12}), dtype=torch.float32, rate=0.001
    )
    check(start, ours, theirs, within=2e-4)
    assert next(iter(ours[0].values())).dtype == torch.float32


def test_a_run_that_diverges_stops_where_autograd_stops_it(world):
    for rate in (float("nan"), 1e300):
        start, ours, theirs = both(
            world, "grpo", HOW.model_copy(update={"mini_batch": 12}), rate=rate
        )
        assert ours[2] == theirs[2] != [None]
        assert ours[1] == theirs[1]
        for key in start:
            torch.testing.assert_close(ours[0][key], theirs[0][key])


def test_only_a_loss_of_another_form_is_refused():
    kept = {"grpo", "recast", "sft", "chord", "target_power_hits", "lens", "sibling", "spo", "gce"}
    assert kept <= set(SERVED)
    assert {"dpo", "s_dpo", "luffy", "cispo", "gspo", "replay", "dft"} <= set(OTHER)
    for name in OTHER:
        assert len(REFUSED[name].splitlines()) == 1, name


@pytest.mark.parametrize("name", OTHER)
def test_a_loss_of_another_form_is_left_to_autograd_and_trains(world, name):
    start = MLP(9).init(world.catalogue, 7, (3,), torch.float64)
    how = HOW.model_copy(update={"mini_batch": 4})
    assert how.kernel == "compiled"
    run = general_path(Runs(MLP(9), world, STRATEGIES[name], start, (3,), how))
    assert type(run) is General
    for step in range(2):
        run.advance(torch.tensor([0.05], dtype=torch.float64), step, 1)
    assert run.diverged_at == [None]
    assert all(value.isfinite().all() for value in run.params.values())
    assert any(not torch.equal(value, start[key]) for key, value in run.params.items())
