"""Warm start: supervised training up to a requested share of all-zero groups.

The share is exact, E[(1 - p)^G] with p the probability of any of a prompt's targets, over RL
prompts (`SOLVER_PROMPTS` of them, which SFT never sees); the step that crosses the request is
interpolated, run by run, and what was achieved is measured again and asserted. Validation and test
prompts take no part, so that the share found there is held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class StartRequest:
    """A start at which a share `all_zero` of the groups of `group` rollouts has no hit, when they
    are sampled at `temperature`.

    max_steps, lr, batch: of the SFT that leads there, batch in prompts; dtype: of the weights.
    """

    all_zero: float
    group: int
    temperature: float = 1.0
    max_steps: int = 2000
    lr: float = 0.003
    batch: int = 256
    dtype: torch.dtype = torch.float64


def warm_start(
    policy: Policy,
    world: World,
    seeds: tuple[int, ...],
    wanted: StartRequest,
    progress: Callable[[str], None] = lambda _: None,
) -> WarmStart:
    """Train R fresh policies on the sft prompts until they are at the start that is wanted.

    Raises ValueError, saying what was reached, when its steps do not suffice or when the untrained
    policy is already below the request.
    """
    # Products over several runs at once may differ in their last bits; see `sim.policies.nodes`.
    if len(seeds) > 1 and not isinstance(policy, NodePolicy):
        return _together([_train(policy, world, (one,), wanted, progress) for one in seeds])
    return _train(policy, world, seeds, wanted, progress)


def _train(
    policy: Policy,
    world: World,
    seeds: tuple[int, ...],
    wanted: StartRequest,
    progress: Callable[[str], None],
) -> WarmStart:
    """The runs of `seeds`, trained together."""
    solver = solver_prompts(world)

    def share_of(params: Params) -> Tensor:
        return all_zero_share(policy, params, world, solver, wanted.group, wanted.temperature)

    params = policy.init(world.catalogue, world.sft.context.shape[1], seeds, wanted.dtype)
    crossing = _Crossing(params, wanted, share_of)
    optimizer = Adam(params)
    rate = torch.full((len(seeds),), wanted.lr, dtype=wanted.dtype)
    batch = min(wanted.batch, len(world.sft))
    for step in range(wanted.max_steps):
        index = minibatch(seeds, "sft", step, batch, len(world.sft))
        params = optimizer.step(params, _gradient(policy, params, world, index), rate)
        crossing.look(params, step)
        if bool(crossing.found.all()):
            break
        if step % 50 == 49:
            progress(f"warm start: step {step + 1}, all-zero {crossing.share.mean():.3f}")
    return crossing.starts()


class _Crossing:
    """Where the SFT of each run crosses the requested share.

    share `[R]`, at the last look; found `[R]`: the runs that have crossed.
    """

    def __init__(
        self, params: Params, wanted: StartRequest, share_of: Callable[[Params], Tensor]
    ) -> None:
        """params: untrained. Raises ValueError where those are below the request already."""
        self._wanted, self._share_of = wanted, share_of
        self.share = share_of(params)
        if bool((self.share < wanted.all_zero).any()):
            raise ValueError(
                f"start.all_zero: {wanted.all_zero:g} asked for, but an untrained policy already "
                f"has {self.share.min():.3f} all-zero groups; ask for less"
            )
        self._best = self.share
        self._before = {name: value.clone() for name, value in params.items()}
        self._kept = {name: value.clone() for name, value in params.items()}
        self.found = torch.zeros(len(self.share), dtype=torch.bool)
        self._steps = torch.zeros(len(self.share), dtype=torch.int64)

    def look(self, params: Params, step: int) -> None:
        """Look at the runs that are due after `step`; keep those that have just crossed."""
        wanted, last = self._wanted, step + 1 == self._wanted.max_steps
        # Each run is looked at on its own schedule: what it becomes never depends on its siblings.
        due = (self.share <= wanted.all_zero + NEAR) | ((step + 1) % EVERY == 0) | last
        if not bool((due & ~self.found).any()):
            return
        self.share = torch.where(due, self._share_of(params), self.share)
        self._best = torch.minimum(self._best, self.share)
        crossed = due & ~self.found & (self.share <= wanted.all_zero)
        if bool(crossed.any()):
            mixed = _interpolate(self._before, params, wanted.all_zero, self._share_of)
            for name in self._kept:
                self._kept[name][crossed] = mixed[name][crossed]
            self._steps[crossed] = step + 1
            self.found |= crossed
        for name, value in params.items():
            self._before[name][due] = value[due]

    def starts(self) -> WarmStart:
        """What was found. Raises ValueError where a run did not cross, or lies off the request."""
        wanted = self._wanted
        if not bool(self.found.all()):
            raise ValueError(
                f"start.all_zero: {wanted.all_zero:g} is out of reach; the best after "
                f"{wanted.max_steps} SFT steps was {self._best.max():.3f}; ask for at least that, "
                "or widen the policy"
            )
        reached = self._share_of(self._kept)
        if bool(((reached - wanted.all_zero).abs() > 0.01).any()):
            raise ValueError(
                f"start.all_zero: asked for {wanted.all_zero:g}, reached {reached.tolist()}; "
                "more than one point off"
            )
        return WarmStart(self._kept, reached, self._steps)


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
