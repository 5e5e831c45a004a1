"""Who is timed: our kernel, our general path or naive loop, and JAX."""

from __future__ import annotations

import os

import numpy as np
import torch

import sim.general.step
from benchmarks.measure import Timed
from recast import STRATEGIES
from sim.decoding.sample import path_logp, path_logp_each, sample, sample_each
from sim.general.optimizer import Adam
from sim.general.runs import Runs
from sim.general.step import collect, updates
from sim.policies.mlp import MLP
from sim.policies.protocol import Params
from sim.settings import Training
from sim.shortcuts.fast_path import FastPath
from sim.shortcuts.phases import Phases
from sim.training.warm_start import StartRequest, warm_start
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World

RATE = 1e-6
"""Small, so that every repetition sees the warm start's share of all-zero groups."""


def world_of(items: int = 1024) -> World:
    return build_synthetic(
        SyntheticWorld(items=items, sft_prompts=4096, validation_prompts=128, test_prompts=128)
    )


def warm(world: World, policy: MLP, runs: int, dtype: torch.dtype, share: float = 0.85) -> Params:
    """A start with `share` all-zero groups at G = 32."""
    found = warm_start(policy, world, tuple(range(runs)), StartRequest(share, 32))
    return {name: value.to(dtype) for name, value in found.params.items()}


def ours(world: World, policy: MLP, start: Params, name: str, how: Training, steps: int) -> Timed:
    runs = len(next(iter(start.values())))
    dtype = next(iter(start.values())).dtype
    fast = FastPath.of(Runs(policy, world, STRATEGIES[name], start, tuple(range(runs)), how))
    assert fast is not None
    rate, first = torch.full((runs,), RATE, dtype=dtype), 0

    def go() -> None:
        nonlocal first
        end = first + steps
        while first < end:
            first += fast.advance(rate, first, end - first)

    return go


def phases(world: World, policy: MLP, start: Params, name: str, how: Training) -> Timed:
    """One rollout phase of every run, rolled out by the general path, its optimizer steps taken by
    the kernel."""
    count = len(next(iter(start.values())))
    each = [{key: value[i : i + 1] for key, value in start.items()} for i in range(count)]
    strategy = STRATEGIES[name]
    runs = [Phases(Runs(policy, world, strategy, one, (i,), how)) for i, one in enumerate(each)]
    rate = torch.full((1,), RATE, dtype=torch.float64)

    def go() -> None:
        for run in runs:
            run.advance(rate, 0, 1)

    return go


def general(
    world: World, policy: MLP, start: Params, name: str, how: Training, steps: int, *, tree: bool
) -> Timed:
    """The general path: every rollout through autograd, or on the shared tree."""
    runs = len(next(iter(start.values())))
    rate, adam = torch.full((runs,), RATE, dtype=next(iter(start.values())).dtype), Adam(start)
    seeds, strategy = tuple(range(runs)), STRATEGIES[name]

    def go() -> None:
        sim.general.step.sample, sim.general.step.path_logp = (  # type: ignore[attr-defined]
            (sample, path_logp) if tree else (sample_each, path_logp_each)
        )
        params, trained = start, Runs(policy, world, strategy, start, seeds, how)
        for step in range(steps):
            phase = collect(trained, params, step, {})
            for loss_of in updates(trained, params, phase, 0.0):
                leaves = {k: v.detach().requires_grad_() for k, v in params.items()}
                slopes = torch.autograd.grad(loss_of(leaves).sum(), list(leaves.values()))
                params = adam.step(params, dict(zip(leaves, slopes, strict=True)), rate)
        sim.general.step.sample, sim.general.step.path_logp = sample, path_logp  # type: ignore[attr-defined]

    return go


def jax_peer(world: World, start: Params, name: str, how: Training, steps: int, mode: str) -> Timed:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax
    import jax.numpy as jnp

    from benchmarks.jax_peer import Peer, make_steps, start_state

    jax.config.update("jax_enable_x64", True)
    dtype = str(next(iter(start.values())).dtype).removeprefix("torch.")
    runs = len(next(iter(start.values())))
    params, state = start_state({k: v.numpy() for k, v in start.items()}, dtype)
    context = world.train.context.numpy().astype(dtype)
    target = world.train.target.numpy()
    peer = Peer(world.catalogue, context, target, name, how.group, how.kl_weight)
    function = make_steps(peer, mode)
    keys = jax.random.split(jax.random.key(0), runs)
    rng = np.random.default_rng(0)
    prompts = jnp.asarray(rng.integers(0, len(world.train), (steps, runs, how.batch)))
    rate = jnp.full((runs,), RATE, dtype=dtype)
    jax.block_until_ready(function(params, state, keys, prompts, rate))
    return lambda: jax.block_until_ready(function(params, state, keys, prompts, rate))
