"""What a check says: a finding, or that it could not run and which column it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["problem", "note"]

MOSTLY = 0.5
TASK = 20
"""Groups of a task from which on it is judged alone: what they share is no chance."""

Z = 4.0
"""A change over training counts from this many standard errors on: one log in 15,000 by chance."""


@dataclass(frozen=True)
class Finding:
    """name: of the check; level: "problem", the run is not learning as its owner believes, or
    "note", read the numbers with this in mind; says: the evidence, with its numbers; do: what would
    help."""

    name: str
    level: Level
    says: str
    do: str


@dataclass(frozen=True)
class Check:
    """One check. function: of what `reads` names, a `Diagnosis`, its `Curves` or its `Audit`; None:
    silent.

    needs: names of which the log must hold one (`NEEDS`), empty where every log has what it takes;
    explains: findings that only repeat this one and are left out beside it; steps: how many logged
    steps it takes; last: it says that nothing is wrong, after all others.
    """

    function: Callable[[Any], Finding | None]
    reads: Literal["rollouts", "curves", "audit"] = "rollouts"
    needs: tuple[str, ...] = ()
    explains: frozenset[str] = frozenset()
    steps: int = 1
    last: bool = False

    @property
    def name(self) -> str:
        """The name of the finding."""
        return self.function.__name__


NEEDS: Mapping[str, str] = {
    "advantage": "advantage",
    "kl": "kl",
    "entropy": "entropy",
    "tokens": "tokens",
    "length": "tokens",
    "truncated": "finish_reason or tokens",
    "unended": "completions",
    "repetition": "completions of 20 words or more",
    "mismatch": "log-probs of rollout engine and training",
    "clipped": "clip_ratio",
    "shaped": "a raw outcome beside the reward",
    "prediction": "completion",
    "format": "format_reward",
    "reward": "reward",
    "outcome": "an outcome",
    "zero_spread": "frac_reward_zero_std",
    "all_bad": "the share of groups without a hit",
    "all_good": "the share of groups of hits only",
    "grad_norm": "the gradient's norm",
    "learning_rate": "the learning rate",
    "loss": "the loss",
    "broken": "the loss, the gradient's norm or kl",
    "lag": "staleness",
    "eval": "an evaluation",
}
"""What to log, in a reader's words, by what a check needs."""

STEP = "step, a number for each batch, over several of them"
"""What a log of one step lacks."""


def number(value: float) -> str:
    """Three digits, and whole numbers from a thousand on."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


@dataclass(frozen=True)
class Unchecked:
    """Checks that could not run for want of one column. names: of their findings; column: what to
    log, in words."""

    names: tuple[str, ...]
    column: str
