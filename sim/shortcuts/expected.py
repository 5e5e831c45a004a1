"""Noise-free training: the kernel walks nothing, and gets the weights of `expected_law`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.general.runs import Runs
from sim.kernel.buffers import serves
from sim.shortcuts.expected_law import law_of, path_weights, why_not_expected
from sim.shortcuts.fast_path import FastPath, OneRun, share_of
from sim.shortcuts.plan import plan_for


class ExpectedPath(FastPath):
    """Steps of R runs of one strategy without sampling noise. Nothing is drawn but prompts."""

    def __init__(self, runs: Runs) -> None:
        """Raises ValueError, one line, where there is no expected update."""
        world, strategy, how = runs.world, runs.strategy, runs.how
        if not serves(runs.policy):
            raise ValueError(
                f"train.updates: no expected update: a {type(runs.policy).__name__} policy has no "
                "hand-written node passes"
            )
        reason = why_not_expected(strategy, how, world.catalogue.depth)
        if world.train.targets is not None:
            reason = "prompts with several targets have no single path to weigh"
        plan = plan_for(strategy, how.group, world.catalogue.depth, how.loss)
        if reason or plan is None:
            raise ValueError(f"train.updates: no expected update: {reason}")
        super().__init__(replace(plan, name="levels"), runs)

    def _ask(self, run: OneRun, step: int) -> None:
        """Fill in the demand with expectations."""
        demand, reach, leave = self._buffers.demand, *self._buffers.paths[2:4]
        law = law_of(self._strategy, reach, leave, self._how.group, self._depth)
        sums = [law.rows, law.active, law.live, law.repaired, law.silent]
        run.tally[: len(sums)] += np.array([part.sum() for part in sums])
        share = share_of(self._rules, 0.0, 0.0, 0.0)
        demand.hits[:], demand.misses[:], demand.miss[:] = 0, 0, 0.0
        demand.hit[:] = -share * path_weights(reach, leave, law)
