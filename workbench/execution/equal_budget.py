"""Comparisons at an equal budget: every strategy trains until it has spent the same.

Each strategy first trains for `train.steps` steps, which shows what a step of it costs on the
chosen axis. The common budget is what the cheapest of them spent there, unless one is asked for.
Every other strategy is then trained anew, and tuned anew, for as many steps as the budget pays:
fewer for a dear one, more for a cheap one. Nothing is read off a curve: a row of the table is the
end of a whole run, with its schedule and its evaluation on all test prompts, and says what the run
spent. A strategy that spends nothing on the axis (supervision alone on rollouts) keeps its steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import polars as pl

from recast.progress import Progress
from sim.worlds.world import World
from workbench.analysis.rows import tuned_test_rows
from workbench.analysis.tuning import mark_tuned
from workbench.errors import UserError
from workbench.execution.runner import run_all, run_experiment
from workbench.spec.experiment import Experiment, change
from workbench.spec.messages import validated
from workbench.spec.sweep import Run, Sweep
from workbench.store.runs import Store

MODES: Mapping[str, str] = MappingProxyType(
    {"rollouts": "rollouts", "steps": "optimizer_steps", "updated_rows": "updated_rows"}
)
"""What may be equal, and the column of the ledger that counts it."""


@dataclass(frozen=True)
class Equal:
    """axis: column of the ledger; budget per run; steps: rollout phases of each strategy; free:
    those that spend nothing on the axis; frame: rows of the final runs with `tuned` marked; keys:
    every run, those that only measured included."""

    axis: str
    budget: float
    steps: Mapping[str, int]
    free: tuple[str, ...]
    frame: pl.DataFrame
    keys: list[str]

    def spent(self) -> dict[str, float]:
        """Mean over seeds of what each strategy spent at its tuned rate."""
        return {name: curve[-1][1] for name, curve in _curves(self.frame, self.axis).items()}

    def notes(self) -> list[str]:
        """What the reader must know, one line each."""
        spent = self.spent()
        lines = [
            f"{name} spends no {_words(self.axis)}: it trained for {self.steps[name]} steps, and "
            "nothing is equal about it here"
            for name in self.free
        ]
        lines += [
            f"{name} spent {spent[name] / self.budget:.0%} of the budget: one step of it costs "
            f"about {spent[name] / self.steps[name]:,.0f} {_words(self.axis)}"
            for name in self.steps
            if name not in self.free and not 0.95 <= spent[name] / self.budget <= 1.0
        ]
        return lines

    def title(self) -> str:
        """The mode, for the head of a table."""
        return f"at equal {_words(self.axis)}: {self.budget:,.0f} per run"


def run_equal(
    spec: Experiment,
    store: Store,
    mode: str,
    budget: int | None = None,
    progress: Progress = lambda *_: None,
    executor: str = "process",
    workers: int | None = None,
) -> tuple[World, Equal]:
    """Train every strategy to the common budget.

    mode: a key of `MODES`; budget: per run, None = what the cheapest strategy spends in
    `train.steps` steps. Raises UserError, beside the reasons of `run_experiment`, when no strategy
    spends anything on the axis, or when the budget pays less than one step of a strategy.
    """
    axis = MODES[mode]
    world, keys = run_experiment(spec, store, progress, executor, workers)
    frame = mark_tuned(store.load(keys), spec.train.tune_metric)
    curves = _curves(frame, axis)
    free = tuple(name for name in spec.strategies if curves[name][-1][1] == 0)
    paying = [name for name in spec.strategies if name not in free]
    if not paying:
        raise UserError(
            f"--equal {mode}: no strategy spends {_words(axis)}; expected one that does"
        )
    common = float(budget) if budget else min(curves[name][-1][1] for name in paying)
    steps = dict.fromkeys(free, spec.train.steps)
    for name in paying:
        steps[name] = steps_within(curves[name], common)
        if steps[name] < 1:
            least = curves[name][-1][1] / spec.train.steps
            raise UserError(
                f"--budget {common:,.0f}: less than one step of {name}, which spends about "
                f"{least:,.0f} {_words(axis)}; ask for more"
            )
    runs = [run for name in spec.strategies for run in _runs(spec, name, steps[name])]
    outcome = run_all(runs, store, progress, executor, workers)
    if outcome.failures:
        raise UserError(outcome.first_failure())
    final = mark_tuned(store.load(outcome.keys), spec.train.tune_metric)
    every = list(dict.fromkeys([*keys, *outcome.keys]))
    ordered = {name: steps[name] for name in spec.strategies}
    return world, Equal(axis, common, ordered, free, final, every)


def steps_within(curve: list[tuple[int, float]], budget: float) -> int:
    """Most steps whose cost stays within the budget; curve: (step, spent), from (0, 0).

    Between two evaluations a step costs what it cost there on average, and beyond the last what it
    cost on average over all.
    """
    for (before, spent), (after, more) in itertools.pairwise(curve):
        if more > budget:
            return before + math.floor((after - before) * (budget - spent) / (more - spent) + 1e-9)
    last, total = curve[-1]
    return math.floor(last * budget / total + 1e-9)


def _curves(frame: pl.DataFrame, axis: str) -> dict[str, list[tuple[int, float]]]:
    """What each strategy had spent at each evaluation, mean over the seeds of its tuned rate."""
    rows = tuned_test_rows(frame).group_by("strategy", "step").agg(pl.col(axis).mean()).sort("step")
    found: dict[str, list[tuple[int, float]]] = {}
    for strategy, step, spent in rows.iter_rows():
        found.setdefault(strategy, []).append((step, spent))
    return found


def _runs(spec: Experiment, strategy: str, steps: int) -> list[Run]:
    changes: dict[str, Any] = {
        "strategies": (strategy,),
        "train.steps": steps,
        "train.evaluations": min(spec.train.evaluations, steps),
    }
    if steps == spec.train.steps:
        changes = {"strategies": (strategy,)}
    one = validated(Experiment, change(spec.model_dump(), changes))
    return Sweep.model_validate(one.model_dump()).runs()


def _words(axis: str) -> str:
    return axis.replace("_", " ")
