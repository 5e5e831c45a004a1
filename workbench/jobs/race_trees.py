"""Trees that grow while a race goes on: where probability goes beside the targets of a few prompts.

One seed's policy is looked at, at each evaluation, on the same prompts for every strategy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sim.branches import Branch, branch_of, masses
from sim.decoding.enumerate import enumerate_logits, item_logp
from sim.policies.protocol import Params, Policy
from sim.worlds.world import World

PLACES = {"a hard prompt": 0.25, "a middling prompt": 0.5, "an easy prompt": 0.85}
"""Prompts by how probable the target is at the start: a name, and a quantile of the test users."""
SEED = 0
"""The run that is looked at."""


@dataclass(frozen=True)
class Forest:
    """The prompts that are looked at. names, branches: one each; context `[P, D]`."""

    names: tuple[str, ...]
    context: Tensor
    branches: list[Branch]

    def plain(self) -> list[dict[str, Any]]:
        """Per prompt its name, codes per level, and which of them is the target's."""
        return [
            {"name": name, "codes": branch.codes, "place": branch.place}
            for name, branch in zip(self.names, self.branches, strict=True)
        ]

    def grown(self, policy: Policy, params: Params, world: World) -> list[list[list[float]]]:
        """Probability per prompt, level and child, to five digits; params `[1, ...]`."""
        found = masses(policy, params, world.catalogue, self.context, self.branches)
        return [[[float(f"{m:.5g}") for m in level] for level in prompt] for prompt in found]


def plant(policy: Policy, start: Params, world: World) -> Forest:
    """Choose the prompts by the start's own probabilities; start: of one run, `[1, ...]`."""
    logits = enumerate_logits(policy, start, world.catalogue, world.test.context)
    users = torch.arange(len(world.test))
    order = item_logp(logits)[world.test.target, users].argsort()
    last = len(order) - 1
    chosen = [int(order[round(quantile * last)]) for quantile in PLACES.values()]
    return Forest(
        tuple(PLACES),
        world.test.context[chosen],
        [branch_of(world.catalogue, int(world.test.target[user])) for user in chosen],
    )
