"""What the shortcuts draw, against the law of i.i.d. groups, enumerated in full."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from one_step import one_step
from scipy.stats import chisquare
from test_fast_path import (
    check_one_step,
    judged,
    made_world,
    rough,
    walked_items,
)
from test_shared_tree import catalogues

from recast import STRATEGIES
from recast.groups import Origin
from recast.signal import build_signal
from recast.structure import matched_levels
from sim.decoding.sample import path_logp_each, sample
from sim.general.runs import Runs
from sim.kernel import draw
from sim.policies.mlp import MLP
from sim.seeds import uniforms
from sim.settings import Training
from sim.shortcuts.expected_law import pair_law
from sim.shortcuts.fast_path import FastPath
from sim.training.trainer import train
from sim.worlds.catalogue import build_catalogue
from sim.worlds.world import Prompts, World

GROUP, BATCH, STEPS, TARGET = 3, 40, 60, 4
CODES = [(0, 0, 0), (0, 0, 1), (0, 2, 1), (2, 0, 2), (2, 2, 0), (2, 2, 1), (3, 1, 1)]
POLICY = MLP(4)


def one_prompt(temperature: float = 1.0) -> tuple[World, dict[str, torch.Tensor], np.ndarray]:
    """A world that asks one prompt again and again, and the exact probability of each item."""
    catalogue = build_catalogue(np.array(CODES), 4)
    context = torch.tensor([[0.4, -1.0, 0.7]], dtype=torch.float64)
    again = Prompts(context.expand(BATCH, -1), torch.full((BATCH,), TARGET))
    params = rough(POLICY, catalogue, (3,))
    items = torch.arange(catalogue.items).view(1, 1, -1)
    encoded = POLICY.encode(params, context.unsqueeze(0))
    logp = path_logp_each(POLICY, params, catalogue, encoded, items)[0, 0].numpy()
    p = np.ones(catalogue.items)
    for level in range(catalogue.depth):
        # Each code of a node, once, whatever number of items lies behind it.
        heat = {codes[: level + 1]: np.exp(logp[i, level] / temperature)
                for i, codes in enumerate(CODES)}  # fmt: skip
        for i, codes in enumerate(CODES):
            here = sum(h for prefix, h in heat.items() if prefix[:level] == codes[:level])
            p[i] *= heat[codes[: level + 1]] / here
    return World("one prompt", catalogue, again, again, again, again), params, p


def law_of_walked(name: str, world: World, p: np.ndarray) -> dict[tuple[int, ...], float]:
    """P(sorted items of the misses that carry credit), over every group and every order of keys."""
    codes = world.catalogue.codes
    groups = torch.tensor(list(itertools.product(range(len(p)), repeat=GROUP)))
    orders = torch.tensor(list(itertools.permutations(range(GROUP)))).double()
    items = groups.repeat_interleave(len(orders), 0)
    keys = orders.repeat(len(groups), 1)
    matched = matched_levels(codes[items], codes[TARGET])
    signal = build_signal(STRATEGIES[name], judged(matched, codes.shape[1], keys))
    heavy = signal.rows & (signal.advantage != 0)
    heavy &= signal.groups.origin != int(Origin.ANCHOR)
    heavy = heavy[:, :GROUP] & (items != TARGET)
    weight = p[items.numpy()].prod(1) / len(orders)
    law: Counter[tuple[int, ...]] = Counter()
    for row, keep, mass in zip(items.tolist(), heavy.tolist(), weight.tolist(), strict=True):
        law[tuple(sorted(itertools.compress(row, keep)))] += mass
    return dict(law)


def check_frequencies(seen: Counter, law: dict, draws: int) -> None:
    """Chi-square; outcomes expected fewer than five times are counted together."""
    assert set(seen) <= {key for key, mass in law.items() if mass > 0}
    common = [key for key, mass in law.items() if mass * draws >= 5]
    observed, expected = [seen[key] for key in common], [law[key] * draws for key in common]
    rest = draws - sum(expected)
    if rest > 1e-6 * draws:
        observed.append(draws - sum(observed))
        expected.append(rest)
    assert len(observed) > 1
    assert chisquare(observed, np.array(expected) * sum(observed) / sum(expected)).pvalue > 1e-3


@pytest.mark.parametrize(
    "name",
    ["recast", "contrast_only", "recast_random_negative", "grpo", "repair_only", "nsr", "visurf",
     "care", "add_gt"],
)  # fmt: skip
def test_walked_misses_follow_the_law_of_iid_groups(name):
    check_walked(name, 1.0)


@pytest.mark.parametrize("name", ["recast", "repair_only", "recast_random_negative"])
def test_walked_misses_follow_the_law_at_another_temperature(name):
    assert np.abs(one_prompt(0.4)[2] - one_prompt()[2]).max() > 0.05
    check_walked(name, 0.4)


def check_walked(name: str, temperature: float) -> None:
    world, params, p = one_prompt(temperature)
    how = Training(steps=STEPS, batch=BATCH, group=GROUP, temperature=temperature)
    fast = FastPath.of(Runs(POLICY, world, STRATEGIES[name], params, (3,), how))
    seen: Counter[tuple[int, ...]] = Counter()
    for step in range(STEPS):
        update = one_step(fast, params, step)
        seen.update(tuple(sorted(walked_items(update, prompt))) for prompt in range(BATCH))
    check_frequencies(seen, law_of_walked(name, world, p), STEPS * BATCH)


def test_hits_of_a_group_are_binomial():
    world, params, p = one_prompt()
    how = Training(steps=STEPS, batch=BATCH, group=5)
    fast = FastPath.of(Runs(POLICY, world, STRATEGIES["grpo"], params, (3,), how))
    seen = Counter(k for step in range(STEPS) for k in one_step(fast, params, step).hits.tolist())
    hit = p[TARGET]
    law = {
        k: len(list(itertools.combinations(range(5), k))) * hit**k * (1 - hit) ** (5 - k)
        for k in range(6)
    }
    check_frequencies(seen, law, STEPS * BATCH)


def test_tree_samples_follow_the_item_probabilities_per_level_and_jointly():
    world, params, p = one_prompt()
    catalogue, n = world.catalogue, 8000
    encoded = POLICY.encode(params, world.train.context[:1].unsqueeze(0))
    draws = uniforms((3,), "tree", 0, (1, n, 3))
    items = sample(POLICY, params, catalogue, encoded, draws, 1.0).view(-1)
    check_frequencies(Counter(items.tolist()), dict(enumerate(p.tolist())), n)
    for depth in (1, 2):
        law: Counter[tuple[int, ...]] = Counter()
        for codes, mass in zip(CODES, p.tolist(), strict=True):
            law[codes[:depth]] += mass
        seen = Counter(tuple(row) for row in catalogue.codes[items][:, :depth].tolist())
        check_frequencies(seen, dict(law), n)


@njit
def fill_law(leave, hit, group, law):
    draw.pair_law(leave, 0, hit, group, law)


@pytest.mark.parametrize("group", [1, 2, 3, 4])
def test_the_law_of_hit_and_hardest_miss_is_that_of_every_group_enumerated(group):
    world, params, p = one_prompt()
    catalogue = world.catalogue
    how = Training(steps=STEPS, batch=BATCH, group=group)
    path = FastPath.of(Runs(POLICY, world, STRATEGIES["recast"], params, (3,), how))
    one_step(path, params, 0)
    reach, leave = path._buffers.paths.reach[:1], path._buffers.paths.leave[:1]
    cells = np.zeros((1, 2 * catalogue.depth + 2))
    fill_law(leave, reach[0, -1], group, cells)
    matched = matched_levels(catalogue.codes, catalogue.codes[TARGET]).tolist()
    expected = np.zeros((2, catalogue.depth + 1))
    for items in itertools.product(range(len(p)), repeat=group):
        misses = [matched[item] for item in items if item != TARGET]
        hardest = 1 + max(misses) if misses else 0
        expected[int(len(misses) < group), hardest] += p[list(items)].prod()
    np.testing.assert_allclose(cells.reshape(2, -1), expected, rtol=0, atol=1e-12)
    law = pair_law(reach[:, -1], leave, group)[0]
    np.testing.assert_allclose(law, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        [reach[0, -1], *leave[0]],
        [p[TARGET], *(sum(q for q, m in zip(p, matched, strict=True) if m == x) for x in range(3))],
        atol=1e-12,
    )


@settings(max_examples=25, deadline=None)
@given(
    catalogue=catalogues(),
    name=st.sampled_from(["recast", "grpo", "pods", "repair_only"]),
)
def test_shortcuts_hold_on_uneven_tries_single_items_and_unused_codes(catalogue, name):
    world = made_world(catalogue.codes.tolist(), catalogue.n_codes)
    params, reference = (rough(POLICY, world.catalogue, (4, 9), label) for label in ("a", "b"))
    how = Training(steps=9, batch=5, group=8)
    fast = FastPath.of(Runs(POLICY, world, STRATEGIES[name], reference, (4, 9), how))
    check_one_step(fast, POLICY, params, reference, world, STRATEGIES[name], how, 0)


@pytest.mark.parametrize("item", [-1, 7, 99])
def test_a_target_outside_the_trie_is_refused(item):
    world, params, _ = one_prompt()
    broken = Prompts(world.train.context, torch.full((BATCH,), item))
    stray = World("stray", world.catalogue, broken, broken, broken, broken)
    how = Training(steps=1, batch=2, group=2, evaluations=1)
    with pytest.raises(ValueError, match=rf"target {item} .* expected an item in 0\.\.6"):
        train(Runs(POLICY, stray, STRATEGIES["grpo"], params, (0,), how), torch.tensor([0.1]))
