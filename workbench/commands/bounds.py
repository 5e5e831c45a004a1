"""Bounds of the options that are numbers. Each has two, so that no typing error runs for a year.

An option that sets a field of an experiment has that field's bounds; the others are named here.
"""

from __future__ import annotations

import math
from typing import Any

import click


class Finite(click.FloatRange):
    """A number that is no nan and no infinity, within bounds."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number. Fails with one line."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


def of_field(name: str) -> click.ParamType[Any]:
    """What an option accepts that sets the field `name` of an experiment, such as `train.group`."""
    from workbench.spec.experiment import Experiment

    model: Any = Experiment
    *tables, leaf = name.split(".")
    for table in tables:
        model = model.model_fields[table].annotation
    found: dict[str, Any] = {}
    for bound in model.model_fields[leaf].metadata:
        sides = (side for side in ("ge", "gt", "le", "lt") if hasattr(bound, side))
        found |= {side: getattr(bound, side) for side in sides}
    low, high = found.get("ge", found.get("gt")), found.get("le", found.get("lt"))
    opened = {"min_open": "ge" not in found, "max_open": "le" not in found}
    kind = Finite if model.model_fields[leaf].annotation is float else click.IntRange
    return kind(low, high, **opened)


WHOLE = 10_000_000
"""Steps, rows, prompts: as many as a field of an experiment may say."""
FEW = 1000
"""Seeds, starts, repetitions, evaluations."""
RATE = Finite(1e-12, 10)
"""A learning rate."""
KL = Finite(0, 100)
SEED = click.IntRange(0, 2**53)
VALUE = Finite(-1e30, 1e30)
"""A reward, a metric: any number that is one."""
SPENT = click.IntRange(1, 10**15)
"""A budget: rollouts, steps or rows."""
SECONDS = Finite(0, 365 * 86_400)
CODES = 65_536
"""Codes of a level."""
BATCH = click.IntRange(1, 4096)
"""Prompts of a step, or rollouts of a prompt."""
RANK = 1024
"""Of LoRA adapters."""
