"""Expected updates: against exact enumeration, and against the mean of what sampling gives."""

from __future__ import annotations

import json
from dataclasses import replace

import command_line
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_step import one_step

from recast import STRATEGIES
from recast.strategies import parse_strategy
from sim.exact import _table, exact_update, exact_world
from sim.general.runs import Runs
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.seeds import normals
from sim.settings import Training
from sim.shortcuts.expected import ExpectedPath
from sim.shortcuts.expected_law import why_not_expected
from sim.shortcuts.fast_path import FastPath
from sim.training.trainer import train
from sim.worlds.free_decoding import free_world
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import Prompts, World
from workbench.errors import UserError
from workbench.spec.experiment import load_experiment

G = 4
EXPECTED = sorted(
    name for name, s in STRATEGIES.items() if why_not_expected(s, Training(group=G), 3) is None
)
OTHERS = sorted(set(STRATEGIES) - set(EXPECTED))


def test_the_strategies_with_an_expected_update_are_these():
    ladder = {"grpo", "dr_grpo", "rloo", "recast", "repair_only", "contrast_only", "sft", "visurf"}
    assert ladder | {"grpo_sft", "pass_at_k", "maxrl", "ngrpo", "chord"} <= set(EXPECTED)
    assert {"reinforce", "gpg", "pods", "rl_zvp", "dpo", "recast_random_negative"} <= set(OTHERS)


def enumerated(p, items: int, seed: int):
    """A small world as `sim.exact` sees it, and the same as the trainer sees it."""
    small = exact_world(p, items, seed)
    prompts = Prompts(torch.eye(len(p), dtype=torch.float64), small.target)
    world = World("exact", small.catalogue, prompts, prompts, prompts, prompts)
    return small, world, {"table": _table(small.catalogue, small.chance)}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("group", [2, 4])
def test_an_expected_step_is_the_exact_enumeration(name, group):
    strategy = STRATEGIES[name]
    try:
        strategy.check_group(group)
    except ValueError:
        pytest.skip("the strategy refuses so narrow a group")
    for p, items, seed in (((0.02, 0.3, 0.9), 4, 0), ((0.5, 0.07), 7, 3)):
        small, world, params = enumerated(p, items, seed)
        # `sim.exact` puts a schedule at its end: step 1 of 2.
        how = Training(steps=2, batch=len(p), group=group)
        path = ExpectedPath(Runs(Tabular(), world, strategy, params, (0,), how))
        got = -one_step(path, params, 1).grads["table"][0].view(len(p), -1)
        want = exact_update(strategy, small, group).mean
        # With k = G every group has the same best of k, and nothing is learnt.
        assert float(want.abs().max()) > 0 or (name, group) == ("pass_at_k", 4)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@settings(max_examples=15, deadline=None)
@given(
    p=st.floats(1e-4, 0.999), items=st.integers(2, 8), seed=st.integers(0, 50),
    name=st.sampled_from(["recast", "repair_only", "grpo", "visurf", "contrast_only"]),
)  # fmt: skip
def test_an_expected_step_is_exact_in_any_small_world(p, items, seed, name):
    small, world, params = enumerated((p,), items, seed)
    path = ExpectedPath(
        Runs(Tabular(), world, STRATEGIES[name], params, (0,), Training(batch=1, group=3))
    )
    got = -one_step(path, params, 0).grads["table"][0].view(1, -1)
    torch.testing.assert_close(
        got, exact_update(STRATEGIES[name], small, 3).mean, rtol=0, atol=1e-10
    )


TINY = SyntheticWorld(
    items=24, codes=4, features=5, latent=4, sft_prompts=64, train_prompts=64,
    validation_prompts=16, test_prompts=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return build_synthetic(TINY)


def rough(policy, world, seed=1):
    params = policy.init(world.catalogue, 5, (seed,), torch.float64)
    return {k: v + 0.6 * normals((seed,), f"rough/{k}", v.shape[1:]) for k, v in params.items()}


@pytest.mark.parametrize("name", ["grpo", "recast", "repair_only", "visurf", "grpo_sft"])
def test_sampled_steps_have_the_expected_step_as_their_mean(world, name):
    """Within 4 standard errors, for the gradient and for the whole ledger."""
    policy, strategy, times = MLP(4), STRATEGIES[name], 250
    few = replace(world, train=world.train.take(torch.arange(6)))
    params, how = rough(policy, world), Training(batch=6, group=5)
    expected = one_step(ExpectedPath(Runs(policy, few, strategy, params, (0,), how)), params, 0)
    fast = FastPath.of(Runs(policy, few, strategy, params, (0,), how))
    drawn = [one_step(fast, params, step) for step in range(times)]

    def check(samples: torch.Tensor, mean: torch.Tensor, rare: float = 0.0) -> None:
        error = samples.var(0).sqrt() / times**0.5
        assert bool(((samples.mean(0) - mean).abs() <= 4 * error + rare + 1e-12).all())

    for key in params:
        check(torch.stack([d.grads[key].flatten() for d in drawn]), expected.grads[key].flatten())
    for part in ("spent", "counted"):
        for key, value in getattr(expected, part).items():
            # A group that is saturated once in thousands may never have been seen.
            seen = torch.stack([getattr(d, part)[key].double() for d in drawn])
            check(seen, value, rare=how.group * 3 / times)


def test_free_decoding_has_an_expected_step_too(world):
    policy, strategy, times = LogLinear(), STRATEGIES["recast"], 250
    few = free_world(replace(world, train=world.train.take(torch.arange(6))))
    params, how = rough(policy, few), Training(batch=6, group=5)
    expected = one_step(
        ExpectedPath(Runs(policy, few, strategy, params, (0,), how)), params, 0
    ).grads
    fast = FastPath.of(Runs(policy, few, strategy, params, (0,), how))
    drawn = [one_step(fast, params, step).grads["weight"] for step in range(times)]
    error = torch.stack(drawn).std(0) / times**0.5
    gap = (torch.stack(drawn).mean(0) - expected["weight"]).abs()
    assert bool((gap <= 4 * error + 1e-12).all())
    assert float(expected["weight"].abs().max()) > float(error.max())


def test_an_expected_run_takes_nothing_from_the_stream_of_rollouts(world):
    """Runs of two seeds differ in prompts alone: with the whole epoch in a step, in nothing."""
    policy, how = (
        LogLinear(),
        Training(steps=3, batch=64, group=8, evaluations=1, updates="expected"),
    )
    start = rough(policy, world)
    both = {k: v.repeat(2, *[1] * (v.ndim - 1)) for k, v in start.items()}
    one, other = train(
        Runs(policy, world, STRATEGIES["recast"], both, (0, 5), how), torch.tensor([0.05, 0.05])
    )
    for mine, theirs in zip(one.rows, other.rows, strict=True):
        for key, value in mine.items():
            if isinstance(value, float):
                assert value == pytest.approx(theirs[key], rel=1e-5, abs=1e-6), key
    alone = train(
        Runs(policy, world, STRATEGIES["recast"], start, (5,), how), torch.tensor([0.05])
    )[0]
    assert alone == other


def test_a_nan_run_stops_alone_with_expected_updates_too(world):
    policy, how = MLP(4), Training(steps=3, batch=16, group=8, evaluations=1, updates="expected")
    start = rough(policy, world)
    both = {k: v.repeat(2, *[1] * (v.ndim - 1)) for k, v in start.items()}
    rates = torch.tensor([float("nan"), 0.01])
    bad, good = train(Runs(policy, world, STRATEGIES["grpo"], both, (0, 1), how), rates)
    assert bad.diverged_at == 1
    assert good == train(Runs(policy, world, STRATEGIES["grpo"], start, (1,), how), rates[1:])[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"strategies": ("reinforce",)}, "'reinforce': no expected update: its credit depends on"),
        ({"strategies": ("dpo",)}, "'dpo': no expected update: its supervised term looks at"),
        ({"strategies": ("psr",)}, "what the batch happens to hold .active.; expected one of"),
        ({"train.kl_weight": 0.1}, "'grpo': no expected update: expected updates need rollouts ="),
        ({"train.temperature": 0.5}, "temperature 1, kl_weight 0 and mini_batch 0"),
        ({"policy.kind": "transformer"}, "expected policy.kind mlp, tabular or loglinear"),
    ],
)
def test_what_has_no_expected_update_is_refused_in_one_line(changes, reason):
    with pytest.raises(UserError, match=reason) as found:
        load_experiment("quick", {"train.updates": "expected", **changes})
    assert "\n" not in str(found.value)


def test_prompts_with_several_targets_are_refused_in_one_line():
    world = build_synthetic(replace(TINY, task="product"))
    assert world.train.targets is not None
    how = Training(steps=1, batch=4, group=4, updates="expected")
    with pytest.raises(ValueError, match="several targets have no single path"):
        train(
            Runs(MLP(4), world, STRATEGIES["grpo"], rough(MLP(4), world), (0,), how), torch.ones(1)
        )


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_strategy_says_why_it_has_none(name):
    assert why_not_expected(parse_strategy(name), Training(group=G), 3)


def test_a_user_trains_without_sampling_noise(tmp_path):
    fields = {
        "policy.kind": "tabular", "world.items": 32, "world.test_prompts": 16,
        "world.validation_prompts": 16, "start.all_zero": 0.55, "start.lr": 0.01,
        "train.steps": 4, "train.batch": 8, "train.group": 8, "train.evaluations": 2,
        "train.updates": "expected",
    }  # fmt: skip
    sets = [part for k, v in fields.items() for part in ("--set", f"{k}={v}")]
    base = ["run", "--preset", "quick", "--seeds", "1", "--lr", "0.01", "--strategy", "grpo"]
    base += ["--strategy", "recast", "--store", str(tmp_path), "--executor", "serial"]
    done = command_line.recast(*base, *sets, "--format", "json")
    assert done.returncode == 0, done.stderr
    _, grpo, recast = json.loads(done.stdout)
    assert grpo["rollouts"] == recast["rollouts"] == 4 * 8 * 8
    assert grpo["updated_rows"] == 4 * 8 * 8
    assert 0 < recast["updated_rows"] <= 4 * 8 * 2
    assert 0 < recast["repaired"] < 1
    # Groups repaired on average are those without a hit.
    assert recast["repaired"] == pytest.approx(recast["all_zero"], abs=0.15)
