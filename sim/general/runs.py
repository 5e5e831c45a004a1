"""Runs of one strategy: as every learner is given them, and what it answers.

The loop of `sim.training.trainer` asks nothing else of a learner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from recast.strategy import Strategy
from sim.general.counts import Counted
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


class Learner(Protocol):
    """Runs of one strategy in training."""

    @property
    def params(self) -> Params:
        """Parameters `[R, ...]`; of a run that has diverged, the last healthy ones."""

    @property
    def diverged_at(self) -> list[int | None]:
        """The step, from 1, at which a run stopped being sound; None for a healthy one."""

    def counted(self, run: int) -> Counted:
        """What the steps of one run counted so far."""

    def advance(self, rates: Tensor, first: int, steps: int) -> int:
        """Train all runs from step `first` on, for at most so many steps; how many it were."""
