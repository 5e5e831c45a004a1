"""The general path as a learner: one run, any strategy, through autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recast.stage import State
from sim.general.counts import Counted
from sim.general.optimizer import Adam
from sim.general.runs import Runs
from sim.general.step import Collected, account, collect, updates
from sim.policies.protocol import Params

LARGEST = 1e15
"""A parameter beyond this, or not a number, has diverged."""


@dataclass(eq=False)
class General:
    """A single run of any strategy. record: gets each step, from 1, and what was rolled out in
    it."""

    runs: Runs
    record: Callable[[int, Collected], None] | None = None

    def __post_init__(self) -> None:
        start = self.runs.start
        self._adam, self._counted = Adam(start), Counted()
        self._state: State = self.runs.strategy.start((1,), len(self.runs.world.train))
        self.params = start
        self.diverged_at: list[int | None] = [None]

    def counted(self, run: int) -> Counted:
        """As `sim.general.runs.Learner`."""
        del run
        return self._counted

    def advance(self, rates: Tensor, first: int, steps: int) -> int:
        """As `sim.general.runs.Learner`; one step at a time."""
        del steps
        if self.diverged_at[0] is not None:
            return 1
        runs = self.runs
        phase = collect(runs, self.params, first, self._state)
        self._state = phase.state
        if self.record is not None:
            self.record(first + 1, phase)
        taken = self._optimize(phase, rates, first)
        spent, taught = account(runs.strategy, runs.how, phase, taken)
        parts = [
            {name: float(value[0]) for name, value in part.items()} for part in (spent, taught)
        ]
        self._counted = self._counted.plus(parts[0], parts[1], 1.0)
        return 1

    def _optimize(self, phase: Collected, rates: Tensor, step: int) -> int:
        """Take the optimizer steps of one phase; how many it has."""
        runs = self.runs
        progress = step / max(1, runs.how.steps - 1)
        losses = updates(runs, self.params, phase, progress)
        for loss_of in losses:
            leaves = {name: value.detach().requires_grad_() for name, value in self.params.items()}
            slopes = torch.autograd.grad(loss_of(leaves).sum(), list(leaves.values()))
            self._move(dict(zip(leaves, slopes, strict=True)), rates, step)
        return len(losses)

    def _move(self, grads: Params, rates: Tensor, step: int) -> None:
        """One optimizer step, unless the run has diverged or does so now."""
        if self.diverged_at[0] is not None:
            return
        after = self._adam.step(self.params, grads, rates.to(next(iter(grads.values())).dtype))
        # NaN compares false. Beyond the limit a product of parameters may overflow unseen.
        ends = [torch.stack(v.flatten(1).aminmax(dim=1)).abs() for v in after.values()]
        if bool((torch.cat(ends) <= LARGEST).all()):
            self.params = after
        else:
            self.diverged_at[0] = step + 1
