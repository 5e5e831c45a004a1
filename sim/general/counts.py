"""What training counts: the cost ledger of a run, and how much its groups taught.

A learner trains runs of one strategy; the loop of `sim.training.trainer` asks nothing else of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from recast.ledger import COST, TAUGHT, CostLedger
from sim.policies.protocol import Params


@dataclass(frozen=True)
class Counted:
    """Sums over the steps of one run so far. spent: by the names of `CostLedger`; taught: by those
    of `TAUGHT`, to be divided by `over`."""

    spent: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(COST, 0.0))
    taught: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(TAUGHT, 0.0))
    over: float = 0.0

    def plus(self, spent: Mapping[str, float], taught: Mapping[str, float], over: float) -> Counted:
        """With the sums of further steps."""
        return Counted(
            {name: value + spent[name] for name, value in self.spent.items()},
            {name: value + taught[name] for name, value in self.taught.items()},
            self.over + over,
        )

    @property
    def ledger(self) -> CostLedger:
        """The cost so far."""
        return CostLedger(**{name: round(value) for name, value in self.spent.items()})

    def taught_since(self, before: Counted) -> dict[str, float | None]:
        """Means over the steps after those of `before`; None where there were none."""
        over = self.over - before.over
        return {
            name: (value - before.taught[name]) / over if over else None
            for name, value in self.taught.items()
        }


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
