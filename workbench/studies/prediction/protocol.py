"""What every rung does alike: rows, split, prompts, steps, tuning rule and metrics.

A rung is a way to find out how strategies compare, cheaper or dearer than the next: theory, a
look-alike world, the replay world with small policies, language models. Rate and checkpoint of each
strategy are chosen by one metric on the tuning users over tuning seeds of their own; the test
prompts are read once, at the end of the paired runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recast.lm.dataset import LMData
from workbench.spec.keys import run_key

Floats = NDArray[np.float64]
Table = Mapping[str, Floats]
"""Metrics of each prompt, `[n]` by name."""

START = "start"
STRATEGIES = (
    "sft",
    "target_power",
    "dft",
    "sft_pg",
    "exact_maxrl",
    "grpo",
    "maxrl",
    "psr",
    "nsr",
    "recast",
    "recast_random_negative",
    "contrast_only",
    "repair_only",
    "grpo_sft",
    "add_gt",
)
"""Fifteen rows, supervised, sampled and mixed; the start is the sixteenth, and SFT the control."""

ALL_ZERO = {"amazon_office": 0.9, "lastfm": 0.94, "beauty": 0.985}
"""Share of all-zero groups of 32 at which every rung starts, by data set: near the least that the
smallest language model reaches on it."""
USUAL = 0.95
"""The same for a data set that is not of the study."""


@dataclass(frozen=True)
class PredictionPlan:
    """steps: RL steps; stops: checkpoints to choose among; batch: prompts per step; group: rollouts
    per prompt; metric: on the tuning users, by which rate and checkpoint are chosen; test, tuning:
    most prompts of those splits; seeds, tuning_seeds: paired runs, and those that choose."""

    steps: int = 40
    stops: tuple[int, ...] = (20, 40)
    batch: int = 32
    group: int = 32
    metric: str = "area"
    test: int = 1500
    tuning: int = 512
    seeds: int = 10
    tuning_seeds: int = 1
    strategies: tuple[str, ...] = STRATEGIES

    @property
    def name(self) -> str:
        """A hash of what decides a run's numbers, whoever runs beside it."""
        others = {"seeds", "strategies", "tuning_seeds"}
        return run_key({k: v for k, v in asdict(self).items() if k not in others})[:8]


TUNING_SEED = 1000
"""Seeds of tuning runs start here."""

STARTS = 3
"""Starts of a trained rung on a case; seed s begins at number s modulo their count."""


def start_of(seed: int) -> int:
    """The number of the start of a paired seed, or of a tuning seed."""
    return (seed - TUNING_SEED if seed >= TUNING_SEED else seed) % STARTS


@dataclass(frozen=True)
class Case:
    """A data set as every rung meets it, and where to start: the all-zero share, and the mean hit
    probability of one rollout where it is known."""

    data: LMData
    all_zero: float
    hit_rate: float | None = None

    @property
    def users(self) -> tuple[str, ...]:
        """Whose prompt each test prompt is."""
        return tuple(row.user for row in self.data.test)


def case_of(
    data: LMData, plan: PredictionPlan, all_zero: float, hit_rate: float | None = None
) -> Case:
    """The data with fixed random samples of its test and tuning rows."""

    def few(rows: Sequence[Any], most: int) -> tuple[Any, ...]:
        picked = np.random.default_rng(0).permutation(len(rows))[:most]
        return tuple(rows[i] for i in sorted(picked.tolist()))

    sampled = replace(data, test=few(data.test, plan.test), tuning=few(data.tuning, plan.tuning))
    return Case(sampled, all_zero, hit_rate)


class Rung(Protocol):
    """One way to find out how strategies compare on a case."""

    name: str
    rates: tuple[float, ...]

    def start(self, seed: int) -> dict[str, float]:
        """Make the start of a seed, or find it; what it reached (`all_zero`, `steps`)."""

    def run(self, strategy: str, lr: float, seed: int, stops: Sequence[int]) -> Iterator[int]:
        """Train from the start of the seed, pausing at each stop; it ends early on divergence."""

    def hits(self) -> Floats:
        """Hit probabilities of the first 2,048 learning prompts, of what is trained now."""

    def tuned(self) -> float:
        """The plan's metric on the tuning users of what is trained now."""

    def measured(self) -> Table:
        """`LM_METRICS` of each test prompt of what is trained now."""
