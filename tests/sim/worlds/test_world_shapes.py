"""Worlds of every shape, built in blocks; sampling whose counts follow the laws of the theory."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_step import one_step
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

import sim.worlds.synthetic
from recast import STRATEGIES
from recast.groups import Origin
from recast.structure import matched_levels
from sim.decoding.enumerate import enumerate_logits, item_logp, tree_entropy
from sim.decoding.sample import sample, sample_each
from sim.general.runs import Runs
from sim.general.step import collect
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.policies.protocol import Policy
from sim.policies.transformer import Transformer
from sim.seeds import normals, stream, uniforms
from sim.settings import Training
from sim.shortcuts.fast_path import FastPath
from sim.training.trainer import train
from sim.worlds.catalogue import Catalogue, build_catalogue
from sim.worlds.free_decoding import free_world
from sim.worlds.synthetic import ROWS, SyntheticWorld, build_synthetic
from sim.worlds.world import Prompts, World

FEATURES = 3
POLICIES: dict[str, Policy] = {
    "mlp": MLP(4), "tabular": Tabular(), "loglinear": LogLinear(), "transformer": Transformer(4),
}  # fmt: skip


def world_of(catalogue: Catalogue, prompts: int = 6, seed: int = 0) -> World:
    rng = stream(seed, "prompts")
    some = Prompts(
        torch.from_numpy(rng.standard_normal((prompts, FEATURES))),
        torch.from_numpy(rng.integers(0, catalogue.items, prompts)),
    )
    return World("made", catalogue, some, some, some, some)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """One item to a dozen, one level to three, nodes with one child, codes that nobody uses."""
    depth, codes = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    every = list(itertools.product(range(codes), repeat=depth))
    chosen = draw(st.lists(st.sampled_from(every), min_size=1, max_size=12, unique=True))
    catalogue = build_catalogue(np.array(chosen), codes + draw(st.integers(0, 3)))
    world = world_of(catalogue, seed=draw(st.integers(0, 9)))
    return free_world(world) if draw(st.booleans()) else world


def rough(policy: Policy, catalogue: Catalogue, seeds: tuple[int, ...]):
    params = policy.init(catalogue, FEATURES, seeds, torch.float64)
    return {k: v + 0.6 * normals(seeds, f"rough/{k}", v.shape[1:]) for k, v in params.items()}


@settings(max_examples=25, deadline=None)
@given(
    world=worlds(),
    policy=st.sampled_from(sorted(POLICIES)),
    name=st.sampled_from(["grpo", "recast", "repair_only", "sft", "reinforce", "rl_zvp"]),
    rollouts=st.sampled_from(["sample", "beam"]),
    group=st.integers(1, 5),
)
def test_every_strategy_trains_and_is_evaluated_in_a_world_of_any_shape(
    world, policy, name, rollouts, group
):
    strategy = STRATEGIES[name]
    try:
        strategy.check_group(group)
    except ValueError:
        return
    how = Training(steps=2, batch=3, group=group, evaluations=1, rollouts=rollouts)
    start = rough(POLICIES[policy], world.catalogue, (1,))
    run = train(Runs(POLICIES[policy], world, strategy, start, (1,), how), torch.tensor([0.01]))[0]
    assert run.diverged_at is None
    last = next(r for r in run.rows if r["split"] == "test_all" and r["step"] == 2)
    shares = [last[x] for x in ("all_zero", "single_hit", "multi_hit", "saturated")]
    assert sum(shares) == pytest.approx(1)
    for metric in ("pass_at_1", "greedy", "hr_at_10", "coverage_at_10", "recall_at_50"):
        assert 0 <= last[metric] <= 1 + 1e-6
    if world.catalogue.items == 1:
        assert last["pass_at_1"] == last["hr_at_1"] == last["greedy"] == 1
        assert last["entropy"] == pytest.approx(0, abs=1e-6)
    assert last["rollouts"] <= 2 * 3 * group


@settings(max_examples=25, deadline=None)
@given(world=worlds(), policy=st.sampled_from(sorted(POLICIES)))
def test_the_enumeration_is_a_distribution_whatever_the_shape(world, policy):
    params = rough(POLICIES[policy], world.catalogue, (2,))
    logits = enumerate_logits(POLICIES[policy], params, world.catalogue, world.test.context)
    p = item_logp(logits).exp()
    assert torch.allclose(p.sum(0), torch.ones(len(world.test)).double())
    entropy = -(p * p.clamp(min=1e-300).log()).sum(0)
    assert torch.allclose(tree_entropy(logits), entropy, atol=1e-9)


@pytest.mark.parametrize("stray", [-1, 13, 10**6])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_target_outside_the_trie_is_refused(split, stray):
    world = world_of(build_catalogue(np.array([[0, 0], [1, 0], [1, 1]]), 3))
    prompts = getattr(world, split)
    target = prompts.target.clone()
    target[2] = stray
    broken = replace(world, **{split: replace(prompts, target=target)})
    start = rough(MLP(4), world.catalogue, (0,))
    with pytest.raises(ValueError, match=rf"target {stray} is not in the catalogue; expected an"):
        train(
            Runs(MLP(4), broken, STRATEGIES["grpo"], start, (0,), Training()), torch.tensor([0.1])
        )


UNEVEN = build_catalogue(
    np.array([
        (0, 0, 0), (0, 0, 1), (0, 0, 4), (0, 2, 1), (0, 2, 3), (0, 3, 0), (2, 0, 0),
        (2, 0, 2), (2, 2, 2), (3, 1, 1), (3, 1, 2), (3, 1, 3), (3, 4, 0),
    ]),
    5,
)  # fmt: skip


def chi_square(observed: torch.Tensor, law: torch.Tensor) -> float:
    """p-value of counts against a law; cells that expect fewer than five are taken together."""
    n = float(observed.sum())
    order, law = law.argsort(), law.double()
    assert float(law.sum()) == pytest.approx(1, rel=1e-6)
    observed, law = observed[order].double(), law[order] / law.sum()
    small = int((law.cumsum(0) * n < 5).sum()) + 1
    small = max(small, int((law * n < 5).sum()))
    if small > 1:
        observed = torch.cat([observed[:small].sum(0, keepdim=True), observed[small:]])
        law = torch.cat([law[:small].sum(0, keepdim=True), law[small:]])
    assert len(law) > 1, "one cell tells nothing"
    seen = law > 0
    assert not bool(observed[~seen].any()), "something impossible was drawn"
    return float(stats.chisquare(observed[seen].numpy(), (law * n)[seen].numpy()).pvalue)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_sampling_follows_the_enumeration_at_every_level_and_jointly(name, temperature):
    """Chi-square at fixed seeds; the shared tree and the rollout-by-rollout reference."""
    policy, n = POLICIES[name], 8000
    params = rough(policy, UNEVEN, (5,))
    context = normals((5,), "x", (1, FEATURES))
    encoded = policy.encode(params, context)
    logits = enumerate_logits(policy, params, UNEVEN, context[0])
    law = item_logp(logits, temperature)[:, 0].exp()
    draws = uniforms((6,), "draws", 0, (1, n, 3))
    for way in (sample, sample_each):
        items = way(policy, params, UNEVEN, encoded, draws, temperature).flatten()
        joint = torch.bincount(items, minlength=UNEVEN.items)
        assert chi_square(joint, law) > 1e-4
        for level in range(3):
            # Which prefix of level + 1 codes: the marginal law of the items below it.
            prefixes = UNEVEN.codes[:, : level + 1]
            _, label = torch.unique(prefixes, dim=0, return_inverse=True)
            marginal = torch.zeros(int(label.max()) + 1).double().index_add_(0, label, law)
            count = torch.bincount(label[items], minlength=len(marginal))
            assert chi_square(count, marginal) > 1e-4
    assert chi_square(joint, law.flip(0)) < 1e-4, "the test cannot tell two laws apart"


def one_prompt(policy: Policy, params, times: int) -> tuple[World, list[float]]:
    """One prompt over and over, whose target is hit about every fourth time; and the probability
    that a rollout shares exactly m codes with the target, m = 0..L."""
    context = normals((4,), "x", (1, FEATURES))[0]
    p = item_logp(enumerate_logits(policy, params, UNEVEN, context))[:, 0].exp()
    target = int((p - 0.25).abs().argmin())
    matched = matched_levels(UNEVEN.codes, UNEVEN.codes[target])
    law = [float(p[matched == m].sum()) for m in range(4)]
    assert 0.03 < law[3] < 0.6
    assert min(law) > 0.01
    prompts = Prompts(context.repeat(times, 1), torch.full((times,), target))
    return World("one", UNEVEN, prompts, prompts, prompts, prompts), law


def test_group_statistics_follow_their_exact_laws():
    """K, the hardest miss max u, and which slot the anchor takes, argmin u, of repaired groups:
    over one prompt rolled out again and again by the path that trains."""
    policy, group, times = MLP(4), 2, 4096
    params = rough(policy, UNEVEN, (3,))
    world, law = one_prompt(policy, params, times)
    below = [sum(law[:m]) for m in range(5)]
    how = Training(steps=1, batch=times, group=group)
    found = collect(
        Runs(policy, world, STRATEGIES["repair_only"], params, (0,), how), params, 0, {}
    )
    plain = collect(
        Runs(policy, world, STRATEGIES["grpo"], params, (0,), how), params, 0, {}
    ).signal.groups
    hits = plain.hit.sum(-1)[0]
    k_law = torch.tensor([stats.binom.pmf(k, group, law[3]) for k in range(group + 1)])
    assert chi_square(torch.bincount(hits, minlength=group + 1), k_law) > 1e-4
    # The hardest miss of groups without a hit, and the shallowest.
    zero = hits == 0
    matched = plain.matched[0][zero]
    miss = 1 - law[3]
    hardest = torch.tensor(
        [(below[m + 1] ** group - below[m] ** group) / miss**group for m in range(3)]
    )
    assert chi_square(torch.bincount(matched.amax(-1), minlength=3), hardest) > 1e-4
    above = [miss - below[m] for m in range(4)]
    easiest = torch.tensor(
        [(above[m] ** group - above[m + 1] ** group) / miss**group for m in range(3)]
    )
    assert chi_square(torch.bincount(matched.amin(-1), minlength=3), easiest) > 1e-4
    # The anchor takes the slot of a shallowest miss, any of them alike, so any slot alike.
    anchor = found.signal.groups.origin[0] == int(Origin.ANCHOR)
    assert torch.equal(anchor.any(-1), zero)
    taken = matched[anchor[zero]]
    assert torch.equal(taken, matched.amin(-1))
    even = torch.full((group,), 1 / group)
    assert chi_square(anchor[zero].sum(0), even) > 1e-4


@pytest.mark.parametrize("name", ["grpo", "recast", "recast_random_negative"])
def test_the_fast_path_draws_hits_and_leaving_levels_from_the_same_laws(name):
    policy, group, times = MLP(4), 6, 2500
    params = rough(policy, UNEVEN, (3,))
    world, law = one_prompt(policy, params, times)
    how = Training(batch=times, group=group)
    fast = FastPath.of(Runs(policy, world, STRATEGIES[name], params, (7,), how))
    hits = torch.from_numpy(one_step(fast, params, 0).hits)
    misses = torch.from_numpy(fast._buffers.demand.misses)
    k_law = [float(stats.binom.pmf(k, group, law[3])) for k in range(group + 1)]
    if name == "recast":
        # A pair asks whether there is a hit, and where the hardest miss leaves.
        seen = torch.bincount((hits > 0).long(), minlength=2)
        assert chi_square(seen, torch.tensor([k_law[0], 1 - k_law[0]])) > 1e-4
        below, p = [sum(law[:m]) for m in range(4)], law[3]
        cell = Counter(row.index(1) if 1 in row else -1 for row in misses.tolist())
        hardest = [(p + below[m + 1]) ** group - (p + below[m]) ** group for m in range(3)]
        observed = torch.tensor([cell[m] for m in (-1, 0, 1, 2)])
        want = torch.tensor([p**group, *hardest])
        assert math.isclose(float(want.sum()), 1, rel_tol=1e-9)
        assert chi_square(observed, want) > 1e-4
        return
    assert chi_square(torch.bincount(hits, minlength=group + 1), torch.tensor(k_law)) > 1e-4
    if name == "grpo":
        leaves = torch.tensor(law[:3]) / sum(law[:3])
        assert chi_square(misses.sum(0), leaves) > 1e-4


def splits(world: World) -> dict[str, Prompts]:
    return {name: getattr(world, name) for name in ("sft", "train", "validation", "test")}


@pytest.mark.parametrize(("task", "drift"), [("plain", 0.0), ("mixed", 0.5), ("label", 0.0)])
def test_a_world_built_in_blocks_has_the_bits_of_one_built_at_once(task, drift, monkeypatch):
    recipe = SyntheticWorld(
        items=40, codes=5, task=task, drift=drift, heterogeneity=0.5,
        sft_prompts=1025, train_prompts=770, validation_prompts=258, test_prompts=515,
    )  # fmt: skip
    assert len(sim.worlds.synthetic.blocks(515)) == 2
    parts = splits(build_synthetic(recipe))
    monkeypatch.setattr(sim.worlds.synthetic, "ROWS", 2000)
    assert len(sim.worlds.synthetic.blocks(1025)) == 1
    for name, whole in splits(build_synthetic(recipe)).items():
        part = parts[name]
        assert torch.equal(part.context, whole.context)
        assert torch.equal(part.all_targets, whole.all_targets)
        assert torch.equal(part.draws, whole.draws)
        assert (part.preference is None) == (whole.preference is None) == (name != "test")
        assert part.preference is None or torch.equal(part.preference, whole.preference)
        assert all(torch.equal(part.slices[s], whole.slices[s]) for s in whole.slices)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 600, 1023, 4096])
def test_blocks_cover_every_prompt_in_order_and_none_is_small(size):
    found = sim.worlds.synthetic.blocks(size)
    assert torch.cat(found).tolist() == list(range(size))
    assert all(min(size, ROWS) <= len(some) < 2 * ROWS for some in found)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.elements = max(self.elements, made.numel())
        return made


@pytest.mark.parametrize("task", ["plain", "mixed"])
def test_building_a_world_never_makes_a_matrix_of_all_prompts_and_items(task):
    recipe = SyntheticWorld(
        items=400, codes=8, task=task, sft_prompts=3000, train_prompts=3000,
        validation_prompts=64, test_prompts=200,
    )  # fmt: skip
    with Largest() as largest:
        build_synthetic(recipe)
    assert ROWS * 400 <= largest.elements < 2 * ROWS * 400
