"""Enumeration by compiled code against the general path, and prompts against their company."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.decoding.compiled import ChildrenOfMLP
from sim.decoding.enumerate import Enumerator, entropy_and_slope, item_logp
from sim.kernel.enumeration import TILE
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.policies.transformer import Transformer
from sim.target_paths import target_paths
from sim.worlds.catalogue import Catalogue, build_catalogue
from sim.worlds.world import Prompts

POLICIES = [MLP(8), MLP(11), Tabular(), LogLinear(), Transformer(8)]
CODES = np.array([(0, 0, 1), (0, 0, 2), (0, 3, 0), (2, 1, 1), (2, 2, 0), (2, 2, 3), (3, 0, 0)])


@st.composite
def catalogues(draw) -> Catalogue:
    """Tries with only children, of 1 to 20 items."""
    place = draw(st.lists(st.integers(0, 5**3 - 1), min_size=1, max_size=20, unique=True))
    return build_catalogue(np.stack(np.unravel_index(place, (5, 5, 5)), 1), 5)


def policy_at(policy, catalogue: Catalogue, seed: int, scale: float, dtype=torch.float64):
    params = policy.init(catalogue, 6, (seed,), dtype)
    return {name: scale * value for name, value in params.items()}


def contexts(prompts: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((prompts, 6)))


@settings(max_examples=40, deadline=None)
@given(catalogues(), st.sampled_from(POLICIES), st.integers(0, 99), st.sampled_from((0.5, 3, 90)))
def test_compiled_code_finds_what_the_general_path_finds(catalogue, policy, seed, scale):
    params, context = policy_at(policy, catalogue, seed, scale), contexts(TILE + 3, seed)
    fast, slow = (Enumerator(policy, params, catalogue, c)(context) for c in (True, False))
    assert (fast.compiled, slow.compiled) == (True, False)
    close = {"rtol": 1e-10, "atol": 1e-10}
    for one, other in zip(fast.logits, slow.logits, strict=True):
        torch.testing.assert_close(one, other, **close)
    for temperature in (1.0, 0.3, 5.0):
        laws = (item_logp(e, temperature) for e in (fast, slow))
        torch.testing.assert_close(*laws, **close)
        pairs = zip(*(entropy_and_slope(e, temperature) for e in (fast, slow)), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(*(item_logp(e, beam=2).exp() for e in (fast, slow)), **close)


@settings(max_examples=20, deadline=None)
@given(catalogues(), st.sampled_from(POLICIES), st.integers(0, 99))
def test_paths_are_followed_as_the_general_path_does(catalogue, policy, seed):
    params, context = policy_at(policy, catalogue, seed, 3.0), contexts(5, seed)
    targets = torch.from_numpy(np.random.default_rng(seed).integers(-1, catalogue.items, (5, 2)))
    prompts = Prompts(context, targets[:, 0].clamp(min=0), targets=targets)
    fast, slow = (target_paths(policy, params, catalogue, prompts, c) for c in (True, False))
    degrees = (1.0, 0.0625, 0.5, 64.0)
    torch.testing.assert_close(fast.hits(degrees), slow.hits(degrees), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_prompt_has_the_same_bits_in_any_company(dtype):
    catalogue, policy = build_catalogue(CODES, 4), MLP(9)
    params = policy_at(policy, catalogue, 1, 3.0, dtype)
    enumerate_at, context = Enumerator(policy, params, catalogue, True), contexts(2 * TILE, 1)
    whole = enumerate_at(context)
    part = enumerate_at(context[TILE - 7 : TILE + 2])
    inside = slice(TILE - 7, TILE + 2)
    for one, other in zip(whole.logits, part.logits, strict=True):
        assert torch.equal(one[:, inside], other)
    assert torch.equal(item_logp(whole, 0.7)[:, inside], item_logp(part, 0.7))
    for one, other in zip(entropy_and_slope(whole, 0.7), entropy_and_slope(part, 0.7), strict=True):
        assert torch.equal(one[inside], other)


@pytest.mark.parametrize("scale", [0.1, 3.0, 50.0, 400.0])
def test_the_reciprocal_form_of_tanh_equals_tanh_even_when_it_saturates(scale):
    catalogue, policy = build_catalogue(CODES, 4), MLP(6)
    params = policy_at(policy, catalogue, 1, 1.0)
    params["node"], params["input"] = scale * params["node"], scale * params["input"]
    context = contexts(7, 2)
    found = ChildrenOfMLP(policy, params, catalogue)(context)
    own = {name: value[0] for name, value in params.items()}
    for level, here in enumerate(catalogue.levels):
        for child, parent in enumerate(here.parent.tolist()):
            if (here.parent == parent).sum() == 1:
                assert not found[level][child].any()
                continue
            hidden = torch.tanh(context @ own["input"] + own["node"][here.offset + parent])
            code = int(here.child_code[child])
            plain = hidden @ own["head"][level][:, code] + own["bias"][level, code]
            torch.testing.assert_close(found[level][child], plain, rtol=0, atol=1e-12)


def test_what_is_no_number_stays_none():
    catalogue, policy = build_catalogue(CODES, 4), MLP(6)
    params = policy_at(policy, catalogue, 1, 1.0)
    params["node"][0, 0, 0] = math.nan
    found = Enumerator(policy, params, catalogue, True)(contexts(3, 1))
    assert item_logp(found).isnan().all()
    assert entropy_and_slope(found, 1.0)[0].isnan().all()
