"""The targets' paths: hit probabilities at any temperature without enumerating the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recast.metrics import best_temperatures
from sim.kernel.available import why_not_compiled
from sim.policies.protocol import Params, Policy
from sim.worlds.catalogue import Catalogue
from sim.worlds.world import Prompts

TUNING_USERS = 512
"""Most validation users on whom the best temperatures are chosen."""


@dataclass(frozen=True)
class Paths:
    """What lies on the paths to the targets `[P, M]` (-1 = none), per level, float64: logits of the
    children less the largest `[P, M, W]`, dead = -inf, and those of the codes taken `[P, M]`;
    greedy `[P]`: the item of greedy decoding; compiled: whether compiled code looks at them."""

    targets: Tensor
    levels: tuple[tuple[Tensor, Tensor], ...]
    greedy: Tensor
    compiled: bool

    def hit(self, temperature: float) -> Tensor:
        """Probability that one sample at a temperature is a target, `[P]`."""
        return self.hits([temperature])[0]

    def hits(self, temperatures: Sequence[float]) -> Tensor:
        """`hit` at several temperatures, `[T, P]`."""
        follow = _follow
        if self.compiled:
            from sim.decoding.compiled import follow
        logp = follow(self.levels, temperatures)
        return logp.exp_().masked_fill_(self.targets < 0, 0.0).sum(-1)


def _follow(levels: Sequence[tuple[Tensor, Tensor]], temperatures: Sequence[float]) -> Tensor:
    """Log-probabilities of paths at T temperatures, `[T, P, M]`; levels: see `Paths`."""
    degrees = torch.tensor(temperatures, dtype=torch.float64).view(-1, 1, 1)
    logp = torch.zeros(len(degrees), *levels[0][1].shape, dtype=torch.float64)
    for shifted, taken in levels:
        mass = (shifted / degrees.unsqueeze(-1)).exp_().sum(-1)
        logp += taken / degrees - mass.log_()
    return logp


def target_paths(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    prompts: Prompts,
    compiled: bool | None = None,
) -> Paths:
    """The paths of one run's policy to every target of some prompts. compiled: None = where this
    machine can compile."""
    dtype = next(iter(params.values())).dtype
    targets = prompts.all_targets
    item = targets.clamp(min=0)
    greedy = torch.zeros(len(targets), 1, dtype=torch.int64)
    with torch.no_grad():
        encoded = policy.encode(params, prompts.context.to(dtype).unsqueeze(0))
        found = []
        for level, here in enumerate(catalogue.levels):
            node = torch.cat([catalogue.path[item, level], greedy], 1)
            logits = policy.node_logits(params, encoded, catalogue, level, node.unsqueeze(0))[0]
            # The children's codes alone, in ascending order, dead slots last.
            code, live = here.code[node], here.mask[node]
            logits = logits.gather(-1, code).masked_fill_(~live, -torch.inf)
            before = code[:, :-1] < catalogue.codes[item, level].unsqueeze(-1)
            slot = (before & live[:, :-1]).sum(-1, keepdim=True)
            shifted = (logits[:, :-1] - logits[:, :-1].amax(-1, keepdim=True)).double()
            found.append((shifted, shifted.gather(-1, slot).squeeze(-1)))
            greedy = here.child[greedy, logits[:, -1].argmax(-1, keepdim=True)]
    compiled = why_not_compiled() is None if compiled is None else compiled
    return Paths(targets, tuple(found), greedy.squeeze(1), compiled)


def tuning_users(validation: Prompts) -> Prompts:
    """The first `TUNING_USERS` validation users."""
    return validation.take(torch.arange(min(TUNING_USERS, len(validation))))


def tuned_temperatures(
    policy: Policy, params: Params, catalogue: Catalogue, users: Prompts
) -> tuple[float, ...]:
    """The temperature of each k of `recast.metrics.PASSES` that is best on some users (see
    `tuning_users`) for one run."""
    return best_temperatures(target_paths(policy, params, catalogue, users).hits)
