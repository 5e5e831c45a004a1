"""Known rollouts: the general path rolls out and judges, the kernel takes the optimizer steps.

It serves several steps per rollout phase, beams, several targets, gates and refilled batches: all
whose loss is the clipped surrogate per token, a KL term and a supervised term in closed form.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recast.stages.supervised import slope_of
from recast.strategy import Strategy
from sim.general.general_path import General
from sim.general.step import Collected, splits
from sim.kernel.buffers import (
    PIECE,
    buffers_of,
    flat_of,
    flat_run,
    net_of,
    params_of,
    serves,
    trie_of,
)
from sim.kernel.machine_code import calling
from sim.kernel.phase import Listed, LossTerms, Phase, phase_step
from sim.kernel.shapes import Array
from sim.policies.protocol import Policy
from sim.shortcuts.fast_path import ESTIMATORS


class Phases(General):
    """One run whose optimizer steps the kernel takes, where `why_not` has no reason against it."""

    @staticmethod
    def why_not(policy: Policy, strategy: Strategy, several: bool = False) -> str | None:
        """Why the kernel cannot take the steps, in one line; None where it can. several: whether a
        supervised term sees several targets of a prompt."""
        if not serves(policy):
            return "the kernel does not know the policy"
        for kind in ("anchor_ratio", "ratio", "clip"):
            # The kernel knows PPO's clip of each code's ratio against this step's policy.
            if not strategy.stage(kind).stage.idle:
                return f"{kind}={getattr(strategy, kind)} is not in the kernel"
        if "logp" in strategy.stage("repair").stage.needs:
            return f"repair={strategy.repair}: rows of earlier policies are not in the kernel"
        if "reference" in strategy.needs:
            return f"supervised={strategy.supervised} looks at the reference policy"
        if slope_of(strategy.stage("supervised"), 0.0, 1) is None:
            return f"supervised={strategy.supervised} has no slope in closed form"
        if several and strategy.learns_from_target:
            return f"supervised={strategy.supervised} of several targets is not in the kernel"
        return None

    def __post_init__(self) -> None:
        super().__post_init__()
        runs = self.runs
        policy, start, how, catalogue = runs.policy, runs.start, runs.how, runs.world.catalogue
        self._flat = flat_run(policy, start, 0)
        arrays = (self._flat.value, self._flat.grad, flat_of(start, 0))
        net, grad, reference = (net_of(policy, x, start, self._flat.reached) for x in arrays)
        self._trie, self._taken = trie_of(catalogue), 0
        self._depth, width = catalogue.depth, self.runs.strategy.width(how.group)
        batch = max(1, min(how.batch, PIECE // (width + 1)))
        items, kl = batch * (width + 1), how.kl_weight > 0
        # Rows of a batch of one prompt per item, which is what they are to a policy.
        self._rows, seen = (
            buffers_of(net, catalogue, items, 0, kl=False).on_path for _ in range(2)
        )
        self._nets = (net, grad, reference if kl else None)
        self._frozen = seen if kl else None
        self._scratch = buffers_of(net, catalogue, batch, 0, kl=False).scratch
        self._scratch.x[:] = 0
        places = [np.zeros(n, np.int64) for n in (items, items, items, items * self._depth)]
        logps = [np.zeros((items, self._depth)) for _ in range(2)]
        self._listed = Listed._make([*places, *logps])
        self._dtype = next(iter(start.values())).dtype

    def _optimize(self, phase: Collected, rates: Tensor, step: int) -> int:
        """Take the optimizer steps of one phase; how many it has."""
        prompts = phase.batch.prompt.shape[1]
        parts = splits(self.runs.strategy, self.runs.how, prompts)
        known = self._phase(phase)
        if len(parts) > 1 and known.items.shape[1]:
            self._call(False, known, self._terms(phase, slice(0, prompts), 0.0), 0, prompts, 0.0)
        progress = step / max(1, self.runs.how.steps - 1)
        for part in parts:
            terms = self._terms(phase, part, progress)
            stop = min(part.stop, prompts)
            if self.diverged_at[0] is None:
                sound = self._call(True, known, terms, part.start, stop, float(rates[0]))
                self._taken += 1
                if not sound:
                    self.diverged_at[0] = step + 1
        if self.diverged_at[0] is None:
            self.params = params_of([self._flat.value], self.runs.start)
        return len(parts)

    def _call(
        self, training: bool, phase: Phase, terms: LossTerms, first: int, last: int, rate: float
    ) -> bool:
        arguments = (
            training, self._flat, *self._nets, self._trie, phase, terms, first, last, self._rows,
            self._frozen, self._listed, self._scratch, rate, self._taken,
        )  # fmt: skip
        with calling(self._dtype, "given rollouts", *["KL"] * (self._frozen is not None)):
            return bool(phase_step(*arguments))

    def _phase(self, phase: Collected) -> Phase:
        """What was rolled out, as the kernel reads it."""
        batch, depth = phase.batch, self._depth
        context, target = (x[0].contiguous().numpy() for x in (batch.context, batch.target))
        prompts, estimate = len(target), np.ones(len(target))
        if phase.signal is None or phase.items is None or phase.rows is None:
            none = np.zeros((prompts, 0, depth))
            empty = np.zeros((prompts, 0), np.int64)
            return Phase(context, target, empty, none, empty > 0, none, estimate)
        index = phase.rows.index[0]
        advantage = phase.rows.advantage[0].double()
        if advantage.ndim == 2:
            advantage = advantage.unsqueeze(-1).expand(*advantage.shape, depth)
        if not self.runs.strategy.has_credit:
            advantage = torch.zeros_like(advantage)
        hits, valid = (x[0].double().numpy() for x in (phase.signal.hits, phase.signal.valid))
        return Phase(
            context,
            target,
            phase.items[0].gather(-1, index).contiguous().numpy(),
            advantage.contiguous().numpy(),
            phase.rows.active[0].contiguous().numpy(),
            np.zeros((*index.shape, depth)),
            (hits + 0.5) / (valid + 1),
        )

    def _terms(self, phase: Collected, part: slice, progress: float) -> LossTerms:
        how, strategy = self.runs.how, self.runs.strategy
        size = min(part.stop, phase.batch.prompt.shape[1]) - part.start
        slope = slope_of(strategy.stage("supervised"), progress, self._depth)
        assert slope is not None
        silent = not strategy.has_credit
        share = 0.0
        if not silent and phase.signal is not None:
            share = strategy.policy_weight / self._divisor(phase, part)
        return LossTerms(
            size == phase.batch.prompt.shape[1],
            1 - how.clip_low,
            1 + how.clip_high,
            share,
            float(how.kl_weight),
            ESTIMATORS[how.kl_estimator],
            1 / size if strategy.learns_from_target else 0.0,
            *map(float, slope),
        )

    def _divisor(self, phase: Collected, part: slice) -> float:
        """`recast.loss.denominator` of some prompts."""
        if self._counts is None or self._counts[0] is not phase:
            signal = phase.signal
            assert signal is not None
            columns = [signal.groups.valid, signal.rows, signal.active]
            counted = np.stack([column[0].sum(-1).numpy() for column in columns])
            self._counts = (phase, counted, signal.groups.valid.shape[-1])
        _, counted, width = self._counts
        valid, rows, active = counted[:, part]
        prompts, filled = len(valid), max(1, int((valid > 0).sum()))
        rollouts = max(1, int(valid.sum()))
        return float(
            {
                "rollouts": rollouts,
                "active": max(1, int(active.sum())),
                "tokens": max(1, int(rows.sum()) * self._depth),
                "prompts": prompts,
                "constant": prompts * width * self._depth,
                "live_groups": rollouts * max(1, int((active > 0).sum())) / filled,
            }[self.runs.strategy.denominator]
        )

    _counts: tuple[Collected, Array, int] | None = None
