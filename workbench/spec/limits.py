"""What a plan asks of a machine, from its numbers alone, and where that is refused.

Nothing is built for an estimate: runs and cells are counted by multiplication, memory and time come
from sizes. The constants of memory were fitted to what `python -m benchmarks.needs` measured, from
above; those of time mean an order of magnitude.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.spec.experiment import Experiment

RUNS = 100_000
CELLS = 5_000
GIBIBYTES = 2.0
"""Of one worker process."""
CORE_HOURS = 2_000.0

ABREAST = 8
"""Runs of one worker at once."""
_PROCESS = 370e6
_SOLVER_PROMPTS = 2048
_SOLVING = 9 * _SOLVER_PROMPTS
"""Numbers of each item at once while a start is sought."""
_CODES = 16

_LIFTED: ContextVar[bool] = ContextVar("limits lifted", default=False)


@contextmanager
def lifted() -> Iterator[None]:
    """Inside, nothing is refused for its size."""
    token = _LIFTED.set(True)
    try:
        yield
    finally:
        _LIFTED.reset(token)


def are_lifted() -> bool:
    """Whether `lifted` holds."""
    return _LIFTED.get()


def too_many(runs: int, cells: int) -> str:
    """Why so many runs and cells are refused, one line; empty when they are not."""
    if _LIFTED.get():
        return ""
    if runs > RUNS:
        return f"{count_of(runs)} runs; expected at most {RUNS:,}{_HOW}"
    if cells > CELLS:
        return f"{count_of(cells)} cells; expected at most {CELLS:,}{_HOW}"
    return ""


def too_large(need: Need) -> str:
    """Why so much memory or time is refused, one line; empty when it is not."""
    if _LIFTED.get():
        return ""
    if need.gibibytes > GIBIBYTES:
        return (
            f"about {need.gibibytes:.3g} GiB in each worker; expected at most {GIBIBYTES:g} "
            f"({need.reason}){_HOW}"
        )
    if need.core_hours > CORE_HOURS:
        return (
            f"about {need.core_hours:.3g} hours of one core; expected at most {CORE_HOURS:,.0f}"
            f"{_HOW}"
        )
    return ""


_HOW = "; `recast --no-limits ...` starts it all the same"


def count_of(number: int) -> str:
    """A number of any size in a few characters: `25,000`, `1.2e+13`."""
    return f"{number:,}" if number < 10**12 else f"{float(min(number, 10**300)):.1e}"


@dataclass(frozen=True)
class Need:
    """gibibytes: of one worker process; core_hours; reason: what takes most of the memory."""

    gibibytes: float
    core_hours: float
    reason: str


def need_of(spec: Experiment, runs: int) -> Need:
    """What `runs` runs of an experiment's kind need. Orders of magnitude, never below the memory
    of a synthetic world's training; of a replay world, whose size is in its files, the training
    alone."""
    world, train, width = spec.world, spec.train, spec.policy.width
    abreast = min(ABREAST, runs)
    nodes = 1 + sum(min(world.items, _CODES**level) for level in (1, 2))
    node = {
        "mlp": 4 * width,
        "tabular": 2 * nodes * _CODES,
        "loglinear": 3 * _CODES,
        "transformer": 24 * width,
    }[spec.policy.kind]
    parameters = {
        "mlp": (nodes + 64) * width,
        "tabular": 40 * nodes * _CODES,
        "loglinear": 40 * _CODES * 3,
        "transformer": 9 * width * width + 128 * width,
    }[spec.policy.kind]
    alone = spec.policy.kind == "transformer"
    # Starts of the others are sought together; every run is trained alone, over distinct nodes.
    together = 1 if alone else abreast
    nodes_met = sum(min(train.group, _CODES**level) for level in range(3))
    rows = train.batch * (3 * train.group if alone else nodes_met)
    wide = 15 * width if alone else min(node, 8 * width)
    parts = {
        "world.test_prompts x world.items": 8.0 * world.items * (8 * world.test_prompts + _SOLVING),
        "world.validation_prompts": 8.0 * 80 * (world.validation_prompts + world.test_prompts),
        "policy.width": 8.0 * (together * _SOLVER_PROMPTS * node + 12 * abreast * parameters),
        "train.batch x train.group": 8.0 * (rows * wide + 40 * abreast * train.batch * train.group),
    }
    enumerated = (world.test_prompts + world.validation_prompts) * world.items * width / 64
    curve = (train.curve_prompts or world.test_prompts) * world.items * width / 64
    seconds = 7e-8 * (2 * enumerated + train.evaluations * curve)
    cost = 2.0 if spec.policy.kind == "transformer" else 0.05
    seconds += train.steps * (1e-3 + 1e-6 * cost * train.batch * train.group * width / 64)
    total = _PROCESS + sum(parts.values())
    seconds *= runs
    seconds += spec.seeds * spec.start.max_steps * 4e-3 * (1 + width / 64)
    return Need(total / 2**30, seconds / 3600, max(parts, key=lambda name: parts[name]))
