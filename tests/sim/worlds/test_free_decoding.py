"""Free decoding: rollouts that are no item happen as often as they should, and earn nothing."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import command_line
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_step import one_step
from scipy import stats
from sweeping import tiny_text

from recast import STRATEGIES
from sim.decoding.enumerate import enumerate_logits, item_logp
from sim.decoding.sample import sample
from sim.evaluate import metrics
from sim.general.runs import Runs
from sim.general.step import collect, updates
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.policies.protocol import Policy
from sim.policies.transformer import Transformer
from sim.seeds import normals, uniforms
from sim.settings import Training
from sim.shortcuts.fast_path import FastPath
from sim.training.trainer import train
from sim.worlds.catalogue import Catalogue, build_catalogue
from sim.worlds.free_decoding import MOST_DEAD_ENDS, free_catalogue, free_world, places
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World
from workbench.spec.experiment import load_experiment
from workbench.spec.later_fields import ADDED
from workbench.spec.sweep import Run, Sweep
from workbench.store.runs import Store

POLICIES: dict[str, Policy] = {
    "mlp": MLP(4), "tabular": Tabular(), "loglinear": LogLinear(), "transformer": Transformer(4),
}  # fmt: skip
TINY = SyntheticWorld(
    items=24, codes=4, sft_prompts=512, train_prompts=256, validation_prompts=32, test_prompts=64
)


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    depth, codes = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    every = list(itertools.product(range(codes), repeat=depth))
    chosen = draw(st.lists(st.sampled_from(every), min_size=1, max_size=12, unique=True))
    return build_catalogue(np.array(chosen), codes + draw(st.integers(0, 1)))


def rough(policy: Policy, catalogue: Catalogue, features: int = 3, seed: int = 1):
    params = policy.init(catalogue, features, (seed,), torch.float64)
    return {k: v + 0.7 * normals((seed,), f"rough/{k}", v.shape[1:]) for k, v in params.items()}


def string_probability(policy, params, free: Catalogue, encoded, codes) -> float:
    """Unconstrained: the softmax over every code, one code after another, while one is in the trie
    of real prefixes."""
    p, node = 1.0, 0
    for level, code in enumerate(codes):
        at = torch.full((1, 1, 1), node)
        logits = policy.node_logits(params, encoded, free, level, at)[0, 0, 0]
        p *= float(torch.softmax(logits, -1)[code])
        node = int(free.levels[level].next[node, code])
    return p


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=15, deadline=None)
@given(catalogue=catalogues())
def test_items_keep_their_unconstrained_probability_and_the_rest_is_invalid(name, catalogue):
    policy, free = POLICIES[name], free_catalogue(catalogue)
    params, context = rough(policy, free), normals((2,), "x", (1, 3))
    p = item_logp(enumerate_logits(policy, params, free, context[0]))[:, 0].exp()
    assert float(p.sum()) == pytest.approx(1)
    assert int((~free.void).sum()) == catalogue.items
    encoded, place = policy.encode(params, context), places(catalogue, free)
    for item, codes in enumerate(catalogue.codes.tolist()):
        assert free.codes[place[item]].tolist() == codes
        assert not free.void[place[item]]
        want = string_probability(policy, params, free, encoded, codes)
        assert float(p[place[item]]) == pytest.approx(want)


def test_every_prefix_that_leads_nowhere_is_one_dead_end():
    free = free_catalogue(build_catalogue(np.array([[0, 1], [2, 0], [2, 1]]), 3))
    dead = [tuple(codes) for codes in free.codes[free.void].tolist()]
    assert dead == [(0, 0), (0, 2), (1, 0), (2, 2)]


@pytest.fixture(scope="module")
def world() -> World:
    return free_world(build_synthetic(TINY))


def test_several_targets_and_true_preferences_move_with_the_items():
    world = build_synthetic(replace(TINY, task="product"))
    free = free_world(world)
    assert bool((world.train.targets < 0).any())
    for name in ("sft", "train", "validation", "test"):
        old, new = getattr(world, name), getattr(free, name)
        assert torch.equal(old.targets < 0, new.targets < 0)
        for before, after in ((old.targets, new.targets), (old.target, new.target)):
            known = before >= 0
            moved = free.catalogue.codes[after[known]]
            assert torch.equal(world.catalogue.codes[before[known]], moved)
    items = places(world.catalogue, free.catalogue)
    assert torch.equal(free.test.preference[:, items], world.test.preference)
    assert float(free.test.preference.sum()) == pytest.approx(float(world.test.preference.sum()))


def test_sampled_rollouts_leave_the_catalogue_as_often_as_the_enumeration_says(world):
    policy, n = MLP(8), 20_000
    params = rough(policy, world.catalogue, 24)
    context = world.test.context[:1].unsqueeze(0)
    encoded = policy.encode(params, context)
    draws = uniforms((3,), "rollouts", 0, (1, n, 3))
    items = sample(policy, params, world.catalogue, encoded, draws, 0.8).flatten()
    one = world.test.take(torch.tensor([0]))
    found = metrics(
        policy, params, world, one, 8, torch.ones(1).double(), full=False, sampled_at=0.8
    )[0]["all"]
    p = found["invalid_share"]
    seen = int(world.catalogue.void[items].sum())
    assert 0.05 < p < 0.95
    assert abs(seen / n - p) < 4 * (p * (1 - p) / n) ** 0.5
    law = item_logp(enumerate_logits(policy, params, world.catalogue, context[0]), 0.8)[:, 0].exp()
    count = torch.bincount(items, minlength=len(law)).double()
    common = law * n >= 5
    expected = torch.cat([law[common], law[~common].sum(0, keepdim=True)]) * n
    observed = torch.cat([count[common], count[~common].sum(0, keepdim=True)])
    assert stats.chisquare(observed.numpy(), expected.numpy()).pvalue > 1e-4


def test_an_invalid_rollout_earns_nothing_and_is_paid_for(world):
    policy = MLP(8)
    params = rough(policy, world.catalogue, 24)
    how = Training(steps=2, batch=32, group=16, evaluations=1)
    found = collect(Runs(policy, world, STRATEGIES["grpo"], params, (0,), how), params, 0, {})
    groups = found.signal.groups
    invalid = world.catalogue.void[groups.item]
    assert bool(invalid.any())
    assert not bool(groups.reward[invalid].any())
    assert not bool(invalid[groups.hit].any())
    for name in ("grpo", "recast", "rl_zvp"):
        rows = train(Runs(policy, world, STRATEGIES[name], params, (0,), how), torch.tensor([0.01]))
        last = rows[0].rows[-1]
        assert last["rollouts"] == 2 * 32 * 16
        assert 0 < last["invalid_share"] < 1


def test_the_fast_path_expects_what_every_rollout_gives_when_decoding_is_free(world):
    policy, strategy = MLP(4), STRATEGIES["reinforce"]
    params = rough(policy, world.catalogue, 24)
    small = replace(world, train=world.train.take(torch.arange(4)))
    how, times = Training(batch=4, group=8), 150
    fast = FastPath.of(Runs(policy, small, strategy, params, (0,), how))
    each = torch.stack([one_step(fast, params, s).grads["bias"].flatten() for s in range(times)])
    slow = []
    for step in range(times):
        runs = Runs(policy, small, strategy, params, (step,), how)
        found = collect(runs, params, 0, {})
        leaf = {k: v.clone().requires_grad_() for k, v in params.items()}
        (loss,) = updates(runs, params, found, 0.0)
        slow.append(torch.autograd.grad(loss(leaf).sum(), leaf["bias"])[0].flatten())
    other = torch.stack(slow)
    error = (each.var(0) / times + other.var(0) / times).sqrt()
    gap = (each.mean(0) - other.mean(0)).abs()
    assert bool((gap <= 4.5 * error + 1e-12).all())
    assert bool((error > 0).any())


def test_lists_of_the_most_probable_items_hold_items_alone(world):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (0,), torch.float64)
    # Code 3 is the likeliest everywhere, so that dead ends outrank most items.
    params["bias"][..., 3] += 6.0
    got = metrics(policy, params, world, world.test, 8, torch.ones(1).double())[0]["all"]
    assert got["invalid_share"] > 0.3
    logp = item_logp(enumerate_logits(policy, params, world.catalogue, world.test.context)).T
    items = (~world.catalogue.void).nonzero().view(-1)
    hits, seen = 0, set()
    for row, target in zip(logp, world.test.target.tolist(), strict=True):
        order = sorted(items.tolist(), key=lambda i: -float(row[i]))[:10]
        hits += target in order
        seen |= set(order)
    assert got["hr_at_10"] == pytest.approx(hits / len(world.test), abs=0.02)
    assert got["coverage_at_10"] == pytest.approx(len(seen) / 24, abs=0.05)
    assert got["hr_at_10"] > hits / len(world.test) - 0.02
    truth = world.test.preference
    want = 0.5 * (logp.exp() - truth).abs().sum(-1).mean().item()
    assert got["total_variation"] == pytest.approx(want, rel=1e-5)


def test_a_catalogue_with_too_many_dead_ends_is_refused():
    codes = np.array([(a, b, 0) for a in range(40) for b in range(40)])
    with pytest.raises(ValueError, match=rf"dead ends; expected at most {MOST_DEAD_ENDS:,}"):
        free_catalogue(build_catalogue(codes, 256))


def test_a_field_that_came_later_renames_no_run_that_it_does_not_change():
    def run(**fields: object) -> Run:
        spec = load_experiment("quick", {k.replace("__", "."): v for k, v in fields.items()})
        return Sweep.model_validate(spec.model_dump()).runs()[0]

    plain = run()
    for part, added in ADDED.items():
        assert not set(added) & set(plain.config[part])
        for field, value in added.items():
            same = run(**{f"{part.removesuffix('_spec')}__{field}": value})
            assert (same.key, same.start, same.config) == (plain.key, plain.start, plain.config)
    free = run(train__decoding="free")
    assert free.config["train_spec"]["decoding"] == "free"
    assert len({plain.key, free.key, run(train__updates="expected").key}) == 3
    # Supervised training meets the dead ends too; how RL updates is nothing to it.
    assert free.start != plain.start == run(train__updates="expected").start
    assert run(world__heterogeneity=0.5).start != plain.start


SPEC = tiny_text(
    ["grpo", "sft"],
    1,
    world__test_prompts=32,
    start__all_zero=0.7,
    start__lr=0.01,
    train__steps=30,
    train__batch=16,
    train__lr=[0.01],
)


def test_a_user_sees_how_many_rollouts_are_no_item(tmp_path):
    (tmp_path / "free.toml").write_text(SPEC)
    store = str(tmp_path / "runs")
    base = ["run", "--preset", str(tmp_path / "free.toml"), "--store", store]
    base += ["--executor", "serial"]
    done = command_line.recast(*base, "--set", "train.decoding=free", "--format", "json")
    assert done.returncode == 0, done.stderr
    _, grpo, sft = json.loads(done.stdout)
    assert 0 < grpo["invalid_share_start"] == sft["invalid_share_start"] < 1
    # Supervision teaches what is an item.
    assert sft["invalid_share"] < sft["invalid_share_training"] < sft["invalid_share_start"]
    text = command_line.recast(*base, "--set", "train.decoding=free").stdout
    for words in ("How many rollouts are no item?", "dead ends; a rollout that"):
        assert words in text
    plain = command_line.recast(*base)
    assert "no item" not in plain.stdout
    frame = Store(tmp_path / "runs").load()
    assert set(frame["train.decoding"].unique()) == {"trie", "free"}


def test_an_unknown_decoding_is_refused_in_one_line(tmp_path):
    done = command_line.recast("run", "--set", "train.decoding=greedy")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "train.decoding: got 'greedy'; expected one of 'trie', 'free'" in line
