"""Experiments from Python: describe one, run it, look at its frame (docs/python.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from recast.progress import Progress
from workbench.analysis.budget import curve_table
from workbench.analysis.compare import compare, parse_side
from workbench.analysis.summary import edge_warnings, over_time, start_warnings, summary
from workbench.analysis.tuning import mark_tuned
from workbench.execution.runner import run_experiment
from workbench.spec.experiment import Experiment, load_experiment
from workbench.store.runs import Store


def experiment(
    preset: str = "default",
    strategies: Iterable[str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Experiment:
    """An experiment from a packaged preset or a TOML file, with other strategies and fields.

    changes: dotted field -> value, such as `{"train.group": 16}`; `recast fields` lists them.
    Raises UserError, one line, for a preset, a field or a value that cannot be used.
    """
    names = None if strategies is None else tuple(strategies)
    return load_experiment(preset, {"strategies": names, **(changes or {})})


def run(
    spec: Experiment,
    store: str | Path = "runs",
    *,
    executor: str = "serial",
    workers: int | None = None,
    progress: Progress = lambda *_: None,
) -> Results:
    """Train what the store lacks of an experiment; finished runs are read, not repeated.

    executor: "serial" trains in this process, and needs nothing of the caller; "process" on as many
    cores as `workers` says, and a script that asks for it needs `if __name__ == "__main__":`.
    progress: called with run-steps done, run-steps in all, and what is going on.
    Raises UserError for a start out of reach, StoreError for a folder that cannot be written, and
    DiskError when the disk refuses.
    """
    place = Store(Path(store)).prepare()
    world, keys = run_experiment(spec, place, progress, executor, workers)
    return Results(spec, place, tuple(keys), tuple(world.notes))


@dataclass(frozen=True)
class Results:
    """What an experiment gave: its runs, and the tables that commands and pages show of them.

    keys: of the runs in the store; notes: what the world has to say about itself.
    """

    experiment: Experiment
    store: Store
    keys: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def frame(self) -> pl.DataFrame:
        """Every measured number: one row per run, evaluation, split and slice, runs in the order of
        the experiment's strategies; `tuned` marks those at each strategy's own rate."""
        order = {name: place for place, name in enumerate(self.experiment.strategies)}
        frame = mark_tuned(self.store.load(self.keys), self.experiment.train.tune_metric)
        return frame.sort(pl.col("strategy").replace_strict(order), maintain_order=True)

    def summary(self) -> pl.DataFrame:
        """One row per strategy and slice after the last step, with intervals over seeds; the
        columns of `recast run --format csv`."""
        return summary(self.frame)

    def over_time(self) -> pl.DataFrame:
        """One row per strategy and evaluation: regimes, and what groups taught."""
        return over_time(self.frame)

    def curve(self, metric: str = "pass_at_1_matched", axis: str = "rollouts") -> pl.DataFrame:
        """Columns strategy, x, mean, low, high: a metric against what was spent, for
        `charts.learning_curves`. axis: rollouts, updated_rows, optimizer_steps or labels."""
        return curve_table(self.frame, metric, axis)

    def compare(self, first: str, second: str) -> pl.DataFrame:
        """First minus second, in pairs of one seed; columns as `workbench.analysis.compare` says.

        Raises UserError when one of them has no runs, or nothing pairs up.
        """
        metric = self.experiment.train.tune_metric
        return compare(self.frame, parse_side(first), parse_side(second), tune_metric=metric)

    def warnings(self) -> list[str]:
        """One line for each reason to read the numbers with care: the notes, a start away from
        what was asked for on held-out prompts, a rate on the edge of its grid."""
        spec = self.experiment
        starts = start_warnings(self.frame, spec.start.all_zero)
        return [*self.notes, *starts, *edge_warnings(self.frame, spec.train.lr)]
