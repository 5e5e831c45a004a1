"""What training counts: the cost ledger of a run, and how much its groups taught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recast.ledger import COST, TAUGHT, CostLedger


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
