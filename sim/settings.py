"""How runs are trained: what every engine of the simulator is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recast.loss import KLEstimator, LossSettings

Kernel = Literal["compiled", "general"]


@dataclass(frozen=True)
class Training:
    """How long and how wide. batch: prompts per step B; group: rollouts per prompt G; rollouts:
    i.i.d. samples at `temperature`, or the G distinct items of a beam search; clip and KL as in the
    loss; mini_batch: rows per optimizer step, 0 = one step for everything that a step
    rolled out; updates: from sampled groups, or expected over everything a group may draw
    (`sim.shortcuts.expected`); iterate: which parameters are evaluated, the last or, once half of
    the steps are done, the mean of all since then; schedule: of the rate, constant or falling
    linearly to 0; kernel: `compiled` trains by `sim.kernel` what it serves, `general` all by
    autograd; evaluations: how many after the start, evenly spaced in steps; curve_prompts: test
    prompts behind each point of the curve (0 = all); start and end are measured on all as
    well."""

    steps: int = 300
    batch: int = 32
    group: int = 32
    rollouts: Literal["sample", "beam"] = "sample"
    temperature: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl_weight: float = 0.0
    kl_estimator: KLEstimator = "k3"
    mini_batch: int = 0
    updates: Literal["sampled", "expected"] = "sampled"
    kernel: Kernel = "compiled"
    iterate: Literal["last", "mean"] = "last"
    schedule: Literal["constant", "linear"] = "constant"
    evaluations: int = 10
    curve_prompts: int = 128

    @property
    def loss(self) -> LossSettings:
        """What the loss needs of it."""
        return LossSettings(self.clip_low, self.clip_high, self.kl_weight, self.kl_estimator)
