"""The shared tree against every rollout on its own, over uneven tries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.decoding.sample import path_logp, path_logp_each, sample, sample_each
from sim.decoding.shared_tree import invert
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.policies.protocol import Policy
from sim.seeds import normals, uniforms
from sim.worlds.catalogue import Catalogue, build_catalogue

POLICIES: dict[str, Policy] = {"mlp": MLP(5), "tabular": Tabular(), "loglinear": LogLinear()}
FEATURES = 3


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    """Uneven tries: N from 1, depth from 1, nodes with one child, codes nobody uses."""
    depth = draw(st.integers(1, 4))
    codes = draw(st.integers(1, 5))
    sid = st.tuples(*[st.integers(0, codes - 1)] * depth)
    chosen = draw(st.lists(sid, min_size=1, max_size=20, unique=True))
    unused = draw(st.integers(0, 2))
    return build_catalogue(np.array(sorted(chosen)), codes + unused)


def rough(policy: Policy, catalogue: Catalogue, seeds: tuple[int, ...], dtype=torch.float64):
    """Parameters far from uniform, so that a mix-up of nodes or runs shows."""
    params = policy.init(catalogue, FEATURES, seeds, dtype)
    return {
        name: (value + 0.7 * normals(seeds, f"rough/{name}", value.shape[1:])).to(dtype)
        for name, value in params.items()
    }


def gradient(logp_of, policy, params, catalogue, context, items, weight):
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    logp = logp_of(policy, leaves, catalogue, policy.encode(leaves, context), items)
    found = torch.autograd.grad((logp * weight).sum(), list(leaves.values()))
    return logp.detach(), dict(zip(leaves, found, strict=True))


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=40, deadline=None)
@given(catalogue=catalogues(), seed=st.integers(0, 99), group=st.integers(1, 9))
def test_the_tree_samples_and_differentiates_as_every_rollout_on_its_own(
    name, catalogue, seed, group
):
    policy, seeds, prompts = POLICIES[name], (seed, seed + 1, 7), 4
    params = rough(policy, catalogue, seeds)
    context = normals(seeds, "context", (prompts, FEATURES))
    shape = (prompts, group, catalogue.depth)
    draws = uniforms(seeds, "draws", 0, shape)
    for temperature in (1.0, 0.6):
        encoded = policy.encode(params, context)
        shared, alone = (
            walk(policy, params, catalogue, encoded, draws, temperature)
            for walk in (sample, sample_each)
        )
        assert torch.equal(shared, alone)
    weight = normals(seeds, "weight", shape)
    logp, grads = gradient(path_logp, policy, params, catalogue, context, shared, weight)
    want, wanted = gradient(path_logp_each, policy, params, catalogue, context, shared, weight)
    torch.testing.assert_close(logp, want, rtol=0, atol=1e-10)
    for key in params:
        torch.testing.assert_close(grads[key], wanted[key], rtol=0, atol=1e-10, msg=key)


def test_a_policy_without_node_passes_falls_back_to_the_reference():
    class Plain:
        def __init__(self) -> None:
            self.init, self.encode = POLICIES["mlp"].init, POLICIES["mlp"].encode
            self.node_logits = POLICIES["mlp"].node_logits

    catalogue = build_catalogue(np.array([[0, 1], [1, 0], [1, 1]]), 2)
    params = rough(MLP(5), catalogue, (1,))
    context = normals((1,), "context", (2, FEATURES))
    draws = uniforms((1,), "draws", 0, (2, 5, 2))
    plain, mlp = (
        sample(policy, params, catalogue, policy.encode(params, context), draws, 1.0)
        for policy in (Plain(), MLP(5))
    )
    assert torch.equal(plain, mlp)


def test_nan_parameters_give_items_of_the_catalogue_and_a_nan_gradient():
    catalogue = build_catalogue(np.array([[0, 1], [2, 0], [2, 1]]), 4)
    policy = MLP(5)
    params = {k: torch.full_like(v, torch.nan) for k, v in rough(policy, catalogue, (1,)).items()}
    context = normals((1,), "context", (2, FEATURES))
    draws = uniforms((1,), "draws", 0, (2, 5, 2))
    for walk in (sample, sample_each):
        items = walk(policy, params, catalogue, policy.encode(params, context), draws, 1.0)
        assert bool(((items >= 0) & (items < catalogue.items)).all())
    _, grads = gradient(
        path_logp, policy, params, catalogue, context, items, torch.ones(1, 2, 5, 2).double()
    )
    assert bool(grads["head"].isnan().all())


def test_node_rows_are_shared_only_inside_a_prompt():
    catalogue = build_catalogue(np.array([[0, 0], [0, 1], [1, 0]]), 2)
    policy = MLP(5)
    params = rough(policy, catalogue, (1,))
    context = normals((1,), "context", (2, FEATURES))
    both = sample(
        policy,
        params,
        catalogue,
        policy.encode(params, context),
        uniforms((1,), "draws", 0, (2, 40, 2)),
        1.0,
    )
    swapped = sample(
        policy,
        params,
        catalogue,
        policy.encode(params, context.flip(1)),
        uniforms((1,), "draws", 0, (2, 40, 2)).flip(1),
        1.0,
    )
    assert torch.equal(both, swapped.flip(1))


@settings(max_examples=60, deadline=None)
@given(
    weight=st.lists(
        st.lists(st.sampled_from([0.0, 1e-30, 0.3, 1.0, 5.0]), min_size=1, max_size=7),
        min_size=1,
        max_size=4,
    ),
    wide=st.integers(1, 17),
    single=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_draw_is_inverted_as_by_searching_its_row_from_the_left(weight, wide, single, seed):
    rng = np.random.default_rng(seed)
    kind = np.float32 if single else np.float64
    rows = np.array([np.resize(row, wide) for row in weight], kind)
    rows[:, seed % wide] += 0.5
    cdf = rows.cumsum(1)
    row = rng.integers(0, len(rows), 30)
    u = np.where(rng.random(30) < 0.3, np.nextafter(1.0, 0.0), rng.random(30))
    found = invert(cdf, row, u)
    for where, draw, code in zip(row, u, found, strict=True):
        point = min(kind(draw) * cdf[where, -1], np.nextafter(cdf[where, -1], kind(0)))
        assert code == np.searchsorted(cdf[where], point, side="right")
        assert rows[where, code] > 0
