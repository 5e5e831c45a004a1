"""What is trained: runs of one strategy, as every learner is given them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recast.strategy import Strategy
from sim.policies.protocol import Params, Policy
from sim.settings import Training
from sim.worlds.world import World


@dataclass(frozen=True)
class Runs:
    """R runs that differ in seed and start. start: parameters `[R, ...]`; seeds has length R."""

    policy: Policy
    world: World
    strategy: Strategy
    start: Params
    seeds: tuple[int, ...]
    how: Training

    def one(self, run: int) -> Runs:
        """One of them alone."""
        return replace(self, start=params_of_one(self.start, run), seeds=(self.seeds[run],))


def params_of_one(params: Params, run: int) -> Params:
    """The parameters of one run, `[1, ...]`, in memory of their own: products depend on
    alignment."""
    return {name: value[run : run + 1].clone() for name, value in params.items()}
