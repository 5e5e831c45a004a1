"""A run returns the same bits alone, in company, in any order, in any chunks, in any process."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from one_step import one_step

from recast import STRATEGIES
from sim.general.runs import Runs
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.policies.nodes import segment_outer, segment_products
from sim.policies.protocol import Policy
from sim.policies.transformer import Transformer
from sim.settings import Training
from sim.shortcuts.fast_path import FastPath
from sim.training.trainer import TrainedRun, train
from sim.worlds.free_decoding import free_world
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World

# Odd sizes on purpose: nothing is a multiple of a vector register.
RECIPE = SyntheticWorld(
    items=37, codes=5, features=7, latent=5, sft_prompts=64, train_prompts=96,
    validation_prompts=8, test_prompts=8,
)  # fmt: skip
HOW = Training(steps=3, batch=9, group=7, evaluations=1)
SEEDS = (0, 1, 2, 3)
both_kernels = pytest.mark.parametrize("kernel", ["general", "compiled"])
SERVED_BY = {
    "grpo": "hits", "recast": "pair", "recast_random_negative": "levels", "sft": "target",
    "rl_zvp": "general", "greso": "general",
}  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return build_synthetic(RECIPE)


def run(
    world: World,
    name: str,
    seeds: tuple[int, ...],
    dtype: torch.dtype = torch.float64,
    policy: Policy = MLP(11),  # noqa: B008 a frozen dataclass
    how: Training = HOW,
    rates: dict[int, float] | None = None,
) -> dict[int, TrainedRun]:
    start = policy.init(world.catalogue, RECIPE.features, seeds, dtype)
    rate = torch.tensor([(rates or {}).get(seed, 0.01 + 0.003 * seed) for seed in seeds])
    found = train(Runs(policy, world, STRATEGIES[name], start, seeds, how), rate)
    return dict(zip(seeds, found, strict=True))


def in_a_process(name: str, seeds: tuple[int, ...], how: Training) -> dict[int, TrainedRun]:
    torch.set_num_threads(1)
    return run(build_synthetic(RECIPE), name, seeds, how=how)


@both_kernels
@pytest.mark.parametrize("name", SERVED_BY)
def test_a_run_is_bitwise_the_same_in_any_company_order_and_chunking(world, name, kernel):
    how = HOW.model_copy(update={"kernel": kernel})
    together = run(world, name, SEEDS, how=how)
    for chunks in [[(3,)], [(2, 0, 3, 1)], [(7, 1), (3, 0, 9)]]:
        for chunk in chunks:
            for seed, found in run(world, name, chunk, how=how).items():
                if seed in together:
                    assert found == together[seed], (chunk, seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["grpo", "recast", "reinforce", "rl_zvp"])
def test_precision_and_policy_do_not_weaken_the_promise(world, name, dtype):
    for policy in (MLP(3), Tabular(), LogLinear(), Transformer(6)):
        both = run(world, name, (0, 1, 2), dtype, policy)
        assert run(world, name, (1,), dtype, policy)[1] == both[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["grpo", "recast", "reinforce", "grpo_sft"])
def test_products_in_pieces_do_not_weaken_the_promise(world, name, dtype):
    # At width 4,999 a product is cut after every eighth row.
    for policy in (MLP(3), MLP(64), MLP(4999)):
        how = HOW.model_copy(update={"steps": 2})
        both = run(world, name, (0, 1, 2), dtype, policy, how)
        assert run(world, name, (1,), dtype, policy, how)[1] == both[1]


@both_kernels
@pytest.mark.parametrize("name", ["grpo", "recast", "rl_zvp"])
def test_free_decoding_does_not_weaken_the_promise(world, name, kernel):
    free, how = free_world(world), HOW.model_copy(update={"kernel": kernel})
    both = run(free, name, (0, 1, 2), how=how)
    assert run(free, name, (1,), how=how)[1] == both[1]


@both_kernels
@pytest.mark.parametrize("mini_batch", [0, 12])
@pytest.mark.parametrize("kl_weight", [0.0, 0.05])
def test_kl_and_several_steps_do_not_weaken_the_promise(world, kl_weight, mini_batch, kernel):
    how = Training(
        steps=2, batch=8, group=6, evaluations=1, kl_weight=kl_weight, mini_batch=mini_batch,
        kernel=kernel,
    )  # fmt: skip
    both = run(world, "grpo", (0, 1, 2), how=how)
    assert run(world, "grpo", (2,), how=how)[2] == both[2]


def test_a_worker_process_returns_the_same_bits(world):
    kernels = [HOW, HOW.model_copy(update={"kernel": "general"})]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {
            (name, chunk, how): pool.submit(in_a_process, name, chunk, how)
            for name in ("grpo", "recast", "rl_zvp")
            for chunk in ((0, 3), (1,))
            for how in kernels
        }
        for (name, _, how), future in waiting.items():
            for seed, found in future.result().items():
                assert found == run(world, name, (seed,), how=how)[seed], (name, seed, how.kernel)


@both_kernels
@pytest.mark.parametrize("name", SERVED_BY)
def test_a_run_that_turns_nan_stops_and_its_siblings_do_not_feel_it(world, name, kernel):
    rates = {1: float("nan"), 3: 1e300}
    how = HOW.model_copy(update={"evaluations": 3, "kernel": kernel})
    company = run(world, name, SEEDS, rates=rates, how=how)
    assert company[1].diverged_at == 1
    assert company[3].diverged_at is not None
    assert company[3].diverged_at >= 1
    for seed in (0, 2):
        assert company[seed] == run(world, name, (seed,), how=how)[seed]
        assert company[seed].diverged_at is None
    first, last = company[1].rows[0], company[1].rows[-1]
    assert last["step"] == HOW.steps
    assert (last["optimizer_steps"], last["learnable"]) == (1, None)
    start = next(r for r in company[1].rows if (r["split"], r["step"]) == (last["split"], 0))
    assert last["pass_at_1"] == start["pass_at_1"]
    assert first["optimizer_steps"] == 0


def test_overflowing_probabilities_give_a_nan_gradient_and_spare_the_sibling(world):
    policy = MLP(11)
    start = policy.init(world.catalogue, RECIPE.features, (0, 1), torch.float64)
    good = {name: value[1:].clone() for name, value in start.items()}
    start["head"][0], start["bias"][0] = 1e308, 1e308
    for name in ("grpo", "recast", "reinforce", "sft"):
        paths = [
            FastPath.of(Runs(policy, world, STRATEGIES[name], params, seeds, HOW))
            for params, seeds in ((start, (0, 1)), (good, (1,)))
        ]
        both, alone = (
            one_step(path, params, 0) for path, params in zip(paths, (start, good), strict=True)
        )
        for key, value in both.grads.items():
            assert bool(value[0].isnan().all()), (name, key)
            assert torch.equal(value[1], alone.grads[key][0]), (name, key)


SHAPES = [
    (1, 3, 5), (9, 11, 5), (32, 64, 16), (77, 24, 64), (300, 64, 16), (211, 63, 17), (130, 25, 63),
    (57, 127, 3), (390, 24, 17), (101, 5, 64), (259, 128, 63), (17, 63, 64),
]  # fmt: skip


def test_products_of_one_run_do_not_depend_on_where_it_lies():
    rng = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        for n, p, q in SHAPES:
            left = torch.randn(n, p, generator=rng, dtype=torch.float64).to(dtype)
            right = torch.randn(p, q, generator=rng, dtype=torch.float64).to(dtype)
            alone = segment_products(left, right.unsqueeze(0), [0, n])
            for before in (0, 1, 2, 3, 5, 10):
                rows = torch.cat([torch.ones(before, p, dtype=dtype), left])
                column = torch.cat([torch.ones(before * q + before), right.reshape(-1)]).to(dtype)
                moved = column[before * q + before :].view(p, q)
                both = torch.stack([right, moved])
                bounds = [0, before, before + n]
                many = segment_products(rows, both, bounds)
                assert torch.equal(many[before:], alone)
                outer = torch.zeros(2, p, q, dtype=dtype)
                segment_outer(rows, many, bounds, outer)
                own = torch.zeros(1, p, q, dtype=dtype)
                segment_outer(left, alone, [0, n], own)
                assert torch.equal(outer[1], own[0])
                torch.testing.assert_close(own[0], left.t() @ alone, rtol=1e-4, atol=1e-3)


def test_elementwise_kernels_do_not_depend_on_where_a_value_lies():
    """The fast path relies on it. A torch or numpy for which this fails needs another way."""
    rng = np.random.Generator(np.random.Philox(5))
    base = torch.from_numpy(rng.standard_normal(64) * 3)
    other = torch.from_numpy(rng.standard_normal(64) * 3)
    kernels = {
        "tanh": lambda x, y: torch.from_numpy(np.tanh(x.numpy())),
        "exp": lambda x, y: torch.from_numpy(np.exp(x.numpy())),
        "torch exp": lambda x, y: x.exp(),
        "log": lambda x, y: x.abs().log(),
        "numpy log": lambda x, y: torch.from_numpy(np.log(x.abs().numpy())),
        "sqrt": lambda x, y: x.abs().sqrt(),
        "multiply, add": lambda x, y: x * y + x,
        "divide": lambda x, y: x / y,
        "lerp": lambda x, y: torch.lerp(x, y, 0.1),
        "addcmul": lambda x, y: torch.addcmul(x, y, y, value=0.001),
        "row sum": lambda x, y: x[: len(x) // 4 * 4].view(-1, 4).sum(-1).repeat_interleave(4),
    }
    for dtype in (torch.float32, torch.float64):
        for name, kernel in kernels.items():
            alone = kernel(base.to(dtype), other.to(dtype))
            for before, after in [(4, 0), (8, 4), (12, 20), (32, 28), (60, 4)]:
                pad = [torch.ones(size, dtype=torch.float64) for size in (before, after)]
                moved = [torch.cat([pad[0], x, pad[1]]).to(dtype) for x in (base, other)]
                found = kernel(*moved)[before : before + 64]
                assert torch.equal(found, alone), (name, dtype, before)
            if "sum" not in name:
                single = [kernel(*(x[i : i + 1].to(dtype) for x in (base, other))) for i in (0, 5)]
                assert torch.equal(torch.cat(single), alone[[0, 5]]), (name, dtype)
