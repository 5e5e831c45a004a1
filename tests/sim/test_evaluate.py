"""Exact evaluation against loops: enumeration, beams, ranks, temperatures, splits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recast.metrics import (
    UNRANKED,
    coverage,
    hit_probability,
    hit_rate_at_k,
    ndcg_at_k,
    pass_at_k,
    recall_at_k,
    regime_shares,
    target_ranks,
    total_variation,
)
from sim.decoding.beam import beam
from sim.decoding.enumerate import (
    Enumerator,
    entropy_and_slope,
    enumerate_logits,
    item_logp,
    tree_entropy,
)
from sim.decoding.sample import path_logp
from sim.evaluate import metrics, snapshot
from sim.matched_temperature import matched
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.policies.protocol import Policy
from sim.policies.transformer import Transformer
from sim.settings import Training
from sim.worlds.catalogue import Catalogue, build_catalogue
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World

TINY = SyntheticWorld(
    items=24, codes=4, sft_prompts=512, train_prompts=256, validation_prompts=64, test_prompts=64
)
POLICIES = [MLP(8), Tabular(), LogLinear(), Transformer(8)]
HOW = Training(group=8, curve_prompts=0)
CURVE = Training(group=8, curve_prompts=16)


@pytest.fixture(scope="module")
def world() -> World:
    return build_synthetic(TINY)


@st.composite
def uneven_catalogues(draw) -> Catalogue:
    """Tries with single children, empty codes, one item only."""
    depth, codes = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    every = list(itertools.product(range(codes), repeat=depth))
    chosen = draw(st.lists(st.sampled_from(every), min_size=1, max_size=20, unique=True))
    return build_catalogue(np.array(chosen), codes)


def enumerate_by_walking(policy: Policy, params, catalogue: Catalogue, context) -> torch.Tensor:
    encoded = policy.encode(params, context.unsqueeze(0))
    items = torch.arange(catalogue.items).expand(1, len(context), -1)
    return path_logp(policy, params, catalogue, encoded, items).sum(-1)[0]


@settings(max_examples=40, deadline=None)
@given(uneven_catalogues(), st.sampled_from(POLICIES), st.integers(0, 99))
def test_enumeration_equals_walking_to_each_item_in_any_trie(catalogue, policy, seed):
    params = policy.init(catalogue, 6, (seed,), torch.float64)
    params = {name: 3 * value for name, value in params.items()}
    context = torch.from_numpy(np.random.default_rng(seed).standard_normal((5, 6)))
    walked = enumerate_by_walking(policy, params, catalogue, context)
    for compiled in (True, False):
        logits = Enumerator(policy, params, catalogue, compiled)(context)
        logp = item_logp(logits)
        assert torch.allclose(logp.T, walked, atol=1e-12)
        assert torch.allclose(logp.exp().sum(0), torch.ones(5, dtype=torch.float64), atol=1e-12)
        slow = -(logp.exp() * logp).sum(0)
        assert torch.allclose(tree_entropy(logits), slow, atol=1e-12)


def beam_by_loops(logp_of, catalogue: Catalogue, width: int) -> list[int]:
    """Beam search on prefix sums of item probabilities, one prompt."""
    codes = [tuple(c) for c in catalogue.codes.tolist()]
    kept = {()}
    for level in range(catalogue.depth):
        mass: dict[tuple[int, ...], float] = {}
        for item, code in enumerate(codes):
            if code[:level] in kept:
                prefix = code[: level + 1]
                mass[prefix] = mass.get(prefix, 0.0) + math.exp(logp_of[item])
        kept = set(sorted(mass, key=lambda p: -mass[p])[:width])
    order = sorted(kept, key=lambda p: -mass[p])
    return [codes.index(prefix) for prefix in order]


@settings(max_examples=40, deadline=None)
@given(uneven_catalogues(), st.integers(1, 9), st.integers(0, 99))
def test_beam_search_equals_a_loop_over_prefixes(catalogue, width, seed):
    policy = MLP(5)
    params = {k: 3 * v for k, v in policy.init(catalogue, 6, (seed,), torch.float64).items()}
    context = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, 6)))
    encoded = policy.encode(params, context.unsqueeze(0))
    items, logp = beam(policy, params, catalogue, encoded, width)
    walked = enumerate_by_walking(policy, params, catalogue, context)
    for prompt in range(3):
        expected = beam_by_loops(walked[prompt].tolist(), catalogue, width)
        got = items[0, prompt].tolist()
        assert got[: len(expected)] == expected
        assert got[len(expected) :] == [-1] * (width - len(expected))
        assert torch.allclose(logp[0, prompt, : len(expected)], walked[prompt][expected])
        if len(expected) < catalogue.items and catalogue.items > 1:
            dense = item_logp(enumerate_logits(policy, params, catalogue, context), beam=width)
            assert dense[:, prompt].topk(len(expected)).indices.tolist() == expected


def test_a_beam_of_zero_is_refused(world):
    with pytest.raises(ValueError, match="expected 1 or more"):
        beam(MLP(4), {}, world.catalogue, torch.zeros(1, 1, 4), 0)


@st.composite
def ranked_prompts(draw):
    items, several = draw(st.integers(2, 12)), draw(st.integers(1, 4))
    score = draw(st.lists(st.integers(-4, 4), min_size=items, max_size=items))
    chosen = draw(
        st.lists(st.integers(0, items - 1), min_size=1, max_size=min(several, items), unique=True)
    )
    return score, chosen, draw(st.integers(1, items))


@given(ranked_prompts())
def test_ranking_metrics_equal_loops_over_a_sorted_list(case):
    score, chosen, k = case
    logp = torch.log_softmax(torch.tensor([score], dtype=torch.float64), -1)
    targets = torch.tensor([[*chosen, -1]])
    expected = []
    for target in chosen:
        above = sum(s > score[target] for s in score)
        tied = sum(s == score[target] for s in score) - 1
        expected.append(above + tied // 2)
    ranks = target_ranks(logp, targets)
    assert ranks[0, :-1].tolist() == expected
    hits = [r < k for r in expected]
    assert hit_rate_at_k(ranks, k).item() == float(any(hits))
    assert recall_at_k(ranks, k).item() == pytest.approx(sum(hits) / len(chosen))
    gain = sum(1 / math.log2(r + 2) for r in expected if r < k)
    ideal = sum(1 / math.log2(i + 2) for i in range(min(k, len(chosen))))
    assert ndcg_at_k(ranks, k).item() == pytest.approx(gain / ideal)
    assert hit_probability(logp, targets).item() == pytest.approx(
        sum(logp[0, t].exp().item() for t in chosen)
    )


@given(st.floats(0, 1), st.integers(1, 12))
def test_regimes_and_pass_at_k_equal_the_binomial_sum(p, group):
    def probability(k: int) -> float:
        return math.comb(group, k) * p**k * (1 - p) ** (group - k)

    shares = {
        k: v.item() for k, v in regime_shares(torch.tensor(p, dtype=torch.float64), group).items()
    }
    assert shares["all_zero"] == pytest.approx(probability(0), abs=1e-9)
    assert shares["single_hit"] == pytest.approx(probability(1) if group > 1 else 0, abs=1e-9)
    assert shares["saturated"] == pytest.approx(probability(group), abs=1e-9)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-9)
    assert pass_at_k(torch.tensor(p, dtype=torch.float64), group).item() == pytest.approx(
        1 - probability(0), abs=1e-9
    )


def test_ndcg_coverage_and_total_variation_by_hand():
    lists = torch.tensor([[4, 2, 7], [2, 5, -1]])
    ranks = torch.tensor([[2, 0], [UNRANKED, UNRANKED]])
    assert ndcg_at_k(ranks, 3, torch.tensor([2, 1])).tolist() == [
        pytest.approx(1.5 / (1 + 1 / math.log2(3))),
        0.0,
    ]
    assert coverage(lists, 8) == 4 / 8
    assert total_variation(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])).item() == 0.5


@pytest.mark.parametrize("policy", POLICIES, ids=["mlp", "tabular", "loglinear", "transformer"])
def test_every_metric_of_a_snapshot_equals_a_loop_over_prompts(world, policy):
    params = policy.init(world.catalogue, 24, (3,), torch.float64)
    params = {name: 2 * value for name, value in params.items()}
    found = metrics(policy, params, world, world.test, 8, torch.tensor([0.5]))[0]["all"]
    logp = enumerate_by_walking(policy, params, world.catalogue, world.test.context)
    target = world.test.target.tolist()
    order = [sorted(range(24), key=lambda i, r=row: -r[i]) for row in logp.tolist()]
    p = [math.exp(row[t]) for row, t in zip(logp.tolist(), target, strict=True)]
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    assert found["pass_at_1"] == pytest.approx(mean(p))
    assert found["pass_at_16"] == pytest.approx(mean([1 - (1 - x) ** 16 for x in p]))
    assert found["hr_at_5"] == mean([t in o[:5] for t, o in zip(target, order, strict=True)])
    assert found["recall_at_5"] == found["hr_at_5"]
    beams = [beam_by_loops(row, world.catalogue, 32) for row in logp.tolist()]
    greedy = [beam_by_loops(row, world.catalogue, 1)[0] for row in logp.tolist()]
    assert found["greedy"] == mean([g == t for g, t in zip(greedy, target, strict=True)])
    assert found["beam_pass_at_1"] == mean([b[0] == t for b, t in zip(beams, target, strict=True)])
    truth = world.test.preference
    assert found["total_variation"] == pytest.approx(
        ((logp.exp() - truth).abs().sum(-1) / 2).mean().item()
    )
    assert found["coverage_at_10"] == len({i for o in order for i in o[:10]}) / 24
    assert found["pass_at_1_matched"] == pytest.approx(found["pass_at_1_t050"])


def test_pass_at_1_rises_to_the_greedy_hit_as_the_temperature_falls(world):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (1,), torch.float64)
    cold = metrics(policy, params, world, world.test, 8, torch.tensor([1e-4]))[0]["all"]
    assert cold["pass_at_1_matched"] == pytest.approx(cold["greedy"], abs=1e-9)


def test_float32_metrics_are_within_a_part_in_ten_thousand(world):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (1,), torch.float64)
    coarse = snapshot(policy, params, world, HOW).found["test_all"][0]["all"]
    exact = snapshot(policy, params, world, HOW, dtype=torch.float64).found["test_all"][0]["all"]
    for name in ("pass_at_1", "entropy", "all_zero", "total_variation"):
        assert coarse[name] == pytest.approx(exact[name], rel=1e-4)


def test_the_matched_temperature_restores_the_entropy(world):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (1, 2), torch.float64)
    for run in range(2):
        one = {k: v[run : run + 1] for k, v in params.items()}
        logits = enumerate_logits(policy, one, world.catalogue, world.validation.context)
        wanted = tree_entropy(logits).mean().item() - 0.2
        found = matched(logits, wanted, 1.0)
        assert abs(tree_entropy(logits, found).mean() - wanted) < 2e-3


@pytest.mark.parametrize("wanted", [-1.0, 99.0])
def test_an_entropy_out_of_reach_gives_no_temperature_and_no_value(world, wanted):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (1,), torch.float64)
    asked = torch.tensor([wanted])
    logits = enumerate_logits(policy, params, world.catalogue, world.validation.context)
    assert math.isnan(matched(logits, wanted, 1.0))
    found = snapshot(policy, params, world, HOW, matching=asked).found["test_all"][0]["all"]
    assert found["pass_at_1_matched"] is None
    assert found["area"] > 0


def test_the_curve_is_measured_on_the_same_prompts_every_time_and_the_end_on_all(world):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (1, 2), torch.float64)
    curve = snapshot(policy, params, world, CURVE, full=False)
    whole = snapshot(policy, params, world, CURVE)
    assert set(curve.found) == {"test"}
    assert set(whole.found) == {"test", "test_all", "validation"}
    assert curve.found["test"] == whole.found["test"]
    assert whole.found["test_all"][0]["all"]["prompts"] == 64
    assert whole.of([1]).found["test_all"][0] == whole.found["test_all"][1]
    assert {tuple(v) for r in whole.found["test_all"] for v in r.values()} == {
        tuple(whole.found["test_all"][0]["all"])
    }


@settings(max_examples=30, deadline=None)
@given(uneven_catalogues(), st.floats(0.2, 4.0), st.integers(0, 99), st.booleans())
def test_the_slope_of_the_entropy_is_its_derivative(catalogue, temperature, seed, compiled):
    policy = Tabular()
    params = policy.init(catalogue, 3, (seed,), torch.float64)
    params = {name: 90 * value for name, value in params.items()}
    enumerate_at = Enumerator(policy, params, catalogue, compiled)
    logits = enumerate_at(torch.eye(3, dtype=torch.float64))
    _, slope = entropy_and_slope(logits, temperature)
    step = 1e-5
    high, low = (tree_entropy(logits, temperature * math.exp(x)) for x in (step, -step))
    torch.testing.assert_close(slope, (high - low) / (2 * step), rtol=1e-6, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e4), st.floats(0.12, 8.0), st.floats(0.5, 4000.0))
@example(16.0, 1.0, 11.0)  # flat at both ends
@example(1.0, 90.0, 4000.0)
def test_the_matched_temperature_is_found_from_wherever_one_looks_first(world, near, true, sharp):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (5,), torch.float64)
    params["head"] = sharp * params["head"]
    logits = enumerate_logits(policy, params, world.catalogue, world.validation.context)
    wanted = tree_entropy(logits, true).mean().item()
    found = matched(logits, wanted, near)
    reached = tree_entropy(logits, found).mean()
    assert abs(reached - wanted) < 2e-3
    # Where entropy hardly moves any temperature will do.
    _, slope = entropy_and_slope(logits, true)
    if slope.mean() > 0.1:
        assert math.log(found) == pytest.approx(math.log(true), abs=4e-3)


@pytest.mark.parametrize("sick", [math.nan, math.inf, 1e15, -1e15, 1e300])
def test_a_run_whose_entropy_has_no_root_takes_no_sibling_down(world, sick):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (1, 2, 3), torch.float64)
    params["head"][1] *= sick
    wanted = torch.tensor([2.0, 2.0, 2.0], dtype=torch.float64)
    found = snapshot(policy, params, world, HOW, matching=wanted)
    for run in (0, 2):
        one = {name: value[run : run + 1].clone() for name, value in params.items()}
        alone = snapshot(policy, one, world, HOW, matching=wanted[:1])
        assert alone.found["test_all"][0] == found.found["test_all"][run]
        assert alone.temperature[0] == found.temperature[run]
    ill = found.found["test_all"][1]["all"]["pass_at_1_matched"]
    assert (ill is None) == math.isnan(found.temperature[1])
    assert ill is None or math.isfinite(ill)


def test_the_test_split_of_a_whole_evaluation_is_that_of_all_prompts_in_order(world):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (1,), torch.float64)
    whole = snapshot(policy, params, world, CURVE, dtype=torch.float64)
    plain = metrics(policy, params, world, world.test, 8, whole.temperature)[0]
    for label, values in plain.items():
        for name, value in values.items():
            assert whole.found["test_all"][0][label][name] == pytest.approx(value, rel=1e-12)
