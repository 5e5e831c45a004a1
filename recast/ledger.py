"""The cost ledger and the record of a finished run, shared by the simulator and the LM path.

Neither writes files: `workbench.store.runs` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class CostLedger:
    """Cumulative cost of one run up to one evaluation, in counts; it holds no times.

    rollouts: candidates sampled. scored_rows: rollouts whose reward was computed. updated_rows:
    rollouts and supervised targets that went through the actor's update. optimizer_steps: updates.
    labels: ground truths that entered a loss, as anchors or supervised targets. skipped_prompts:
    prompts that sent nothing to the actor.
    """

    rollouts: int = 0
    scored_rows: int = 0
    updated_rows: int = 0
    optimizer_steps: int = 0
    labels: int = 0
    skipped_prompts: int = 0

    def plus(self, spent: Mapping[str, int]) -> CostLedger:
        """With one step's cost added, by the names of the fields."""
        return CostLedger(**{name: value + spent[name] for name, value in asdict(self).items()})


COST = tuple(item.name for item in fields(CostLedger))
"""The counts of the ledger, by name."""

TAUGHT = ("learnable", "signal_count", "update_width", "repaired")
"""What groups taught, means over groups: share with a signal, gradient-signal count, rows that
reach the actor, share with an anchor."""


@dataclass(frozen=True)
class RunRecord:
    """One finished run: what was asked, and one row per (evaluation, split, slice).

    config: everything that determines the run, JSON-serialisable. rows: flat mappings with the
    same keys in every row. diverged_at: optimizer step at which a parameter became non-finite.
    """

    config: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    world: Mapping[str, Any] = field(default_factory=dict)
    diverged_at: int | None = None
