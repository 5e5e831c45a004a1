"""Evidence: the rows of the packaged sweeps that claims, questions and maps are measured on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from recast.progress import Progress
from workbench.analysis.budget import cautions
from workbench.analysis.rows import curve_rows, last_rows
from workbench.analysis.tuning import beyond_the_edge, mark_tuned, on_edges
from workbench.errors import UserError
from workbench.spec.metrics import COMPARED
from workbench.spec.sweep import Run, Sweep, load_sweep, sweep_names
from workbench.stats.pairs import pair_by_seed
from workbench.stats.samples import Floats
from workbench.store.encoding import flat_config
from workbench.store.runs import Store

WHOLE = "the whole sweep"


@dataclass(frozen=True)
class Gap:
    """Why a sweep is missing or incomplete, and the command that completes it, if there is one."""

    text: str
    command: str = ""

    def __str__(self) -> str:
        return f"{self.text}: {self.command}" if self.command else self.text


@dataclass(frozen=True)
class SweepFrames:
    """Frames by sweep, each with `tuned` marked and a `setting` per cell; absent = not run.

    gaps: one line per sweep that is missing or incomplete in the store. absent: labels of the cells
    that lack a run, by sweep; they are not in its frame. efficiency: rows that `recast lm
    efficiency` printed, empty without them.
    """

    sweeps: Mapping[str, pl.DataFrame]
    gaps: tuple[Gap, ...] = field(default=())
    efficiency: pl.DataFrame = field(default_factory=pl.DataFrame)
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, sweep: str) -> pl.DataFrame:
        """Every row of a sweep; empty when it was not run."""
        return self.sweeps.get(sweep, pl.DataFrame())

    def settings(self, sweep: str) -> list[str]:
        """The cells of a sweep, by label, in order of appearance."""
        frame = self.of(sweep)
        return [] if frame.is_empty() else frame["setting"].unique(maintain_order=True).to_list()

    def curves(self, sweep: str) -> pl.DataFrame:
        """Test rows of all evaluations at the tuned rates, all users together."""
        rows = curve_rows(self.of(sweep))
        return rows if rows.is_empty() else rows.sort("setting", "strategy", "run", "step")

    def final(self, sweep: str, metric: str | None = None) -> pl.DataFrame:
        """One row per run at its last step: every test prompt, tuned rates, all users together.
        metric: what chooses the rates, None = what the sweep says."""
        frame = self.of(sweep)
        if frame.is_empty():
            return pl.DataFrame()
        frame = frame if metric is None else mark_tuned(frame, metric)
        return last_rows(frame.filter("tuned"))

    def warnings(self, metric: str, baseline: str) -> list[str]:
        """What a reader must know of the baseline and the rates, one line per sweep and caution."""
        found = []
        for name, frame in self.sweeps.items():
            for setting in self.settings(name):
                here = frame.filter(pl.col("setting") == setting)
                found += [f"{name}, {setting}: {c.text}" for c in cautions(here, metric, baseline)]
        return found


def run_and_gather(
    names: Collection[str],
    store: Store,
    changes: Mapping[str, Any],
    progress: Progress,
    executor: str,
    workers: int | None,
) -> SweepFrames:
    """Run what is missing of packaged sweeps, then read them. changes: dotted fields to replace.

    A name that is not packaged is a gap. Raises UserError when a run cannot be done and DiskError
    when the disk refuses.
    """
    from workbench.execution.runner import run_sweep

    frames, gaps = {}, _not_packaged(names)
    for name in dict.fromkeys(n for n in names if n in sweep_names()):
        plan = load_sweep(name, changes)

        def show(done: int, total: int, text: str, name: str = name) -> None:
            progress(done, total, f"{name}: {text}")

        outcome = run_sweep(plan, store, show, executor, workers)
        if outcome.failures:
            raise UserError(f"sweep {name}: {outcome.first_failure()}")
        frames[name] = _prepared(plan, store.load(outcome.keys))
    return SweepFrames(frames, tuple(gaps))


def gather(names: Collection[str], store: Store, changes: Mapping[str, Any]) -> SweepFrames:
    """Read what a store holds of packaged sweeps, cell by cell; nothing is run.

    A cell that lacks a run of the written grid is left out and named in `absent`.
    """
    frames, gaps, lacking = {}, _not_packaged(names), {}
    for name in dict.fromkeys(n for n in names if n in sweep_names()):
        plan = load_sweep(name, changes)
        wanted = plan.runs()
        missing = [run for run in wanted if not store.has(run.key)]
        cells = {run.config["cell"]: run for run in missing}
        whole = [run for run in wanted if run.config["cell"] not in cells]
        if missing:
            gaps.append(
                Gap(
                    f"{len(missing)} of {len(wanted)} runs of the sweep {name} are not in "
                    "the store",
                    f"recast sweep {name} --store {store.root}",
                )
            )
            lacking[name] = _labels(plan, list(cells.values()))
        if whole:
            frames[name] = _prepared(plan, _with_further_rates(plan, whole, store))
    return SweepFrames(frames, tuple(gaps), absent=lacking)


def _labels(plan: Sweep, runs: Sequence[Run]) -> tuple[str, ...]:
    """The labels of the cells of these runs."""
    frame = pl.DataFrame([flat_config(run.config) for run in runs], infer_schema_length=None)
    return tuple(with_setting(frame, plan.varying())["setting"])


def _not_packaged(names: Collection[str]) -> list[Gap]:
    return [Gap(f"the sweep {name} is not packaged") for name in names if name not in sweep_names()]


def _with_further_rates(plan: Sweep, runs: list[Run], store: Store) -> pl.DataFrame:
    """The stored rows of these runs and of the rates by which their grids were extended, as far as
    every seed of such a rate is stored."""
    frame = store.load(run.key for run in runs)
    for _ in range(plan.tune.extend if plan.tune else 0):
        assert plan.tune is not None
        more = beyond_the_edge(runs, frame, plan.tune)
        absent = {(r.config["cell"], r.strategy, r.lr) for r in more if not store.has(r.key)}
        more = [r for r in more if (r.config["cell"], r.strategy, r.lr) not in absent]
        if not more:
            break
        runs = runs + more
        frame = pl.concat([frame, store.load(r.key for r in more)], how="diagonal_relaxed")
    return frame


def _prepared(plan: Sweep, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows in the order of the plan's cells, whatever order the store has, labelled."""
    cells = dict.fromkeys(run.config["cell"] for run in plan.runs())
    place = pl.col("cell").replace_strict({cell: i for i, cell in enumerate(cells)})
    frame = frame.sort(place, maintain_order=True)
    metric = plan.tune.metric if plan.tune else plan.train.tune_metric
    return with_setting(mark_tuned(frame, metric), plan.varying())


def conditions(evidence: SweepFrames) -> pl.DataFrame:
    """What stands behind the figures, one row per sweep: sweep, runs, settings, strategies, seeds,
    steps, prompts_per_step, group, rollouts, rates (lowest and highest tried), edges (of the rates
    that each metric chooses, how many are the lowest or the highest tried), test_prompts,
    generation (of the simulator's numbers)."""
    seeds = pl.col("seed").n_unique()
    facts = {
        "steps": "train.steps",
        "prompts_per_step": "train.batch",
        "group": "train.group",
        "rollouts": "train.rollouts",
        "test_prompts": "world.test_prompts",
        "generation": "engine",
    }
    return pl.DataFrame(
        [
            {
                "sweep": name,
                "runs": frame["run"].n_unique(),
                "settings": "; ".join(evidence.settings(name)),
                "strategies": ", ".join(frame["strategy"].unique(maintain_order=True)),
                "seeds": _values(frame.group_by("setting", "strategy").agg(seeds)["seed"]),
                "rates": " to ".join(f"{lr:g}" for lr in (min(frame["lr"]), max(frame["lr"]))),
                "edges": edges(frame),
                **{
                    label: _values(frame[field]) for label, field in facts.items() if field in frame
                },
            }
            for name, frame in evidence.sweeps.items()
        ]
    )


def edges(frame: pl.DataFrame) -> str:
    """Where the chosen rates of a frame's strategies and cells lie, metric by metric."""
    found = []
    for metric in (name for name in COMPARED if name in frame.columns):
        lowest, highest, rows = on_edges(frame, metric)
        found.append(f"{metric} {lowest} lowest, {highest} highest of {rows}")
    return "; ".join(found)


def _values(column: pl.Series) -> str:
    """Every value that occurs, in order."""
    return ", ".join(str(value) for value in column.unique().sort())


def with_setting(frame: pl.DataFrame, varying: Sequence[str]) -> pl.DataFrame:
    """Add `setting`, the label of each row's cell: the fields in which cells differ, by name."""
    if frame.is_empty():
        return frame
    fields = [name for name in varying if name in frame.columns]
    if not fields:
        return frame.with_columns(setting=pl.lit(WHOLE))
    parts = [
        pl.format("{} {}", pl.lit(name.rpartition(".")[2].replace("_", " ")), pl.col(name))
        for name in fields
    ]
    return frame.with_columns(setting=pl.concat_str(parts, separator=", "))


def pairs(
    frame: pl.DataFrame, metric: str, first: str, second: str, setting: str
) -> tuple[Floats, Floats]:
    """Values of two strategies in one setting, `[n]` each, paired by seed; empty without pairs."""
    here = frame.filter(pl.col("setting") == setting)
    try:
        found = pair_by_seed(here, metric, first, second, "setting")
    except ValueError:
        return np.array([]), np.array([])
    return found.first, found.second


def per_run(
    curves: pl.DataFrame, strategy: str, setting: str, measure: Callable[[pl.DataFrame], float]
) -> dict[int, float]:
    """A number per run of a strategy in a setting, by seed. measure sees rows in order of steps."""
    here = curves.filter((pl.col("strategy") == strategy) & (pl.col("setting") == setting))
    return {
        int(rows["seed"][0]): measure(rows.sort("step"))
        for _, rows in here.group_by("run", maintain_order=True)
    }
