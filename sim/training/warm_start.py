"""Warm start: supervised training up to a requested share of all-zero groups.

The share is exact, E[(1 - p)^G] with p the probability of any of a prompt's targets, over RL
prompts (`SOLVER_PROMPTS` of them, which SFT never sees); the step that crosses the request is
interpolated, run by run, and what was achieved is measured again and asserted. Validation and test
prompts take no part, so that the share found there is held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from recast.loss import supervised_loss
from sim.decoding.sample import path_logp, path_logp_each
from sim.general.optimizer import Adam
from sim.policies.nodes import NodePolicy
from sim.policies.protocol import Params, Policy
from sim.seeds import minibatch
from sim.worlds.world import Prompts, World

SOLVER_PROMPTS = 2048
NEAR = 0.05
EVERY = 5
"""SFT steps between two looks at a run whose share is more than `NEAR` above the request."""


@dataclass(frozen=True)
class WarmStart:
    """params `[R, ...]`; all_zero `[R]`, the share reached on the solver's prompts; steps `[R]` of
    SFT."""

    params: Params
    all_zero: Tensor
    steps: Tensor


def solver_prompts(world: World) -> Prompts:
    """The RL prompts on which a start is calibrated."""
    return world.train.take(torch.arange(min(SOLVER_PROMPTS, len(world.train))))


def all_zero_share(
    policy: Policy,
    params: Params,
    world: World,
    prompts: Prompts,
    group: int,
    temperature: float = 1.0,
) -> Tensor:
    """Exact share of all-zero groups of width G, sampled at a temperature; `[R]`."""
    hit = hit_share(policy, params, world, prompts, temperature)
    return torch.exp(group * torch.log1p(-hit.clamp(max=1 - 1e-12))).mean(-1)


def hit_share(
    policy: Policy, params: Params, world: World, prompts: Prompts, temperature: float
) -> Tensor:
    """Probability that one sample at a temperature is a target; `[R, P]`."""
    runs, dtype = next(iter(params.values())).shape[0], next(iter(params.values())).dtype
    with torch.no_grad():
        context = prompts.context.to(dtype).expand(runs, -1, -1)
        targets = prompts.all_targets.expand(runs, -1, -1)
        encoded = policy.encode(params, context)
        item = targets.clamp(min=0)
        if temperature == 1.0:
            logp = path_logp(policy, params, world.catalogue, encoded, item)
        else:
            logp = path_logp_each(policy, params, world.catalogue, encoded, item, temperature)
        return logp.sum(-1).exp().masked_fill(targets < 0, 0.0).sum(-1)


def warm_start(
    policy: Policy,
    world: World,
    seeds: tuple[int, ...],
    *,
    all_zero: float,
    group: int,
    temperature: float = 1.0,
    max_steps: int = 2000,
    lr: float = 0.003,
    batch: int = 256,
    dtype: torch.dtype = torch.float64,
    progress: Callable[[str], None] = lambda _: None,
) -> WarmStart:
    """Train R fresh policies on the sft prompts until `all_zero` of the groups have no hit, when
    they are sampled at `temperature`.

    Raises ValueError, saying what was reached, when `max_steps` do not suffice or when the
    untrained policy is already below the request.
    """
    if len(seeds) > 1 and not isinstance(policy, NodePolicy):
        # Products over several runs at once may differ in their last bits; see
        # `sim.policies.nodes`.
        alone = partial(
            warm_start,
            policy,
            world,
            all_zero=all_zero,
            group=group,
            temperature=temperature,
            max_steps=max_steps,
            lr=lr,
            batch=batch,
            dtype=dtype,
            progress=progress,
        )
        return _together([alone((seed,)) for seed in seeds])
    solver = solver_prompts(world)

    def share_of(params: Params) -> Tensor:
        return all_zero_share(policy, params, world, solver, group, temperature)

    params = policy.init(world.catalogue, world.sft.context.shape[1], seeds, dtype)
    share = share_of(params)
    if bool((share < all_zero).any()):
        raise ValueError(
            f"start.all_zero: {all_zero:g} asked for, but an untrained policy already has "
            f"{share.min():.3f} all-zero groups; ask for less"
        )
    best, before = share, {name: value.clone() for name, value in params.items()}
    found = torch.zeros(len(seeds), dtype=torch.bool)
    kept = {name: value.clone() for name, value in params.items()}
    steps = torch.zeros(len(seeds), dtype=torch.int64)
    optimizer = Adam(params)
    rate = torch.full((len(seeds),), lr, dtype=dtype)
    batch = min(batch, len(world.sft))
    for step in range(max_steps):
        index = minibatch(seeds, "sft", step, batch, len(world.sft))
        params = optimizer.step(params, _gradient(policy, params, world, index), rate)
        # Each run is looked at on its own schedule: what it becomes never depends on its siblings.
        due = (share <= all_zero + NEAR) | ((step + 1) % EVERY == 0) | (step + 1 == max_steps)
        if not bool((due & ~found).any()):
            continue
        share = torch.where(due, share_of(params), share)
        best = torch.minimum(best, share)
        crossed = due & ~found & (share <= all_zero)
        if bool(crossed.any()):
            mixed = _interpolate(before, params, all_zero, share_of)
            for name in kept:
                kept[name][crossed] = mixed[name][crossed]
            steps[crossed] = step + 1
            found |= crossed
            if bool(found.all()):
                break
        for name, value in params.items():
            before[name][due] = value[due]
        if step % 50 == 49:
            progress(f"warm start: step {step + 1}, all-zero {share.mean():.3f}")
    if not bool(found.all()):
        raise ValueError(
            f"start.all_zero: {all_zero:g} is out of reach; the best after {max_steps} SFT steps "
            f"was {best.max():.3f}; ask for at least that, or widen the policy"
        )
    reached = share_of(kept)
    if bool(((reached - all_zero).abs() > 0.01).any()):
        raise ValueError(
            f"start.all_zero: asked for {all_zero:g}, reached {reached.tolist()}; "
            "more than one point off"
        )
    return WarmStart(kept, reached, steps)


def _together(each: Sequence[WarmStart]) -> WarmStart:
    """Starts of one run each, as one of all."""
    return WarmStart(
        {name: torch.cat([one.params[name] for one in each]) for name in each[0].params},
        torch.cat([one.all_zero for one in each]),
        torch.cat([one.steps for one in each]),
    )


def _gradient(policy: Policy, params: Params, world: World, index: Tensor) -> Params:
    """Of the supervised loss on the sft prompts at index `[R, b]`."""
    dtype = next(iter(params.values())).dtype
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    encoded = policy.encode(leaves, world.sft.context[index].to(dtype))
    target = world.sft.target[index].unsqueeze(-1)
    logp = path_logp(policy, leaves, world.catalogue, encoded, target).sum((-2, -1))
    loss = supervised_loss(logp, 1.0).sum()
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def _interpolate(
    before: Params, after: Params, all_zero: float, share_of: Callable[[Params], Tensor]
) -> Params:
    """Bisect each run between two points of its SFT for the requested share."""
    runs = next(iter(before.values())).shape[0]
    low, high = torch.zeros(runs, dtype=torch.float64), torch.ones(runs, dtype=torch.float64)
    mixed = after
    for _ in range(12):
        middle = (low + high) / 2
        mixed = {
            name: torch.lerp(
                before[name],
                after[name],
                middle.to(before[name].dtype).view(-1, *[1] * (before[name].ndim - 1)),
            )
            for name in before
        }
        above = share_of(mixed) > all_zero
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return mixed
