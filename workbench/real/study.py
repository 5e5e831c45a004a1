"""The measured comparison on a real model: plan, run, resume.

Everything lives below one folder: `starts/` (SFT checkpoints), `tuning/` (one JSON file per tuning
run), `prompts/` (one Parquet file per measured policy: every metric of every test prompt), and a
store of the reporting runs. A file exists entirely or not at all; what exists is not done again.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from recast.progress import Progress
from workbench.real.runs import (
    ENGINE,
    LMCell,
    Setups,
    build_setup,
    lm_run_config,
    needs_reference,
    world_values,
)
from workbench.spec.keys import run_key
from workbench.store.files import replace as write_whole
from workbench.store.kept_files import kept_note, kept_table
from workbench.store.runs import Store

if TYPE_CHECKING:
    from torch import Tensor

    from recast.ledger import RunRecord
    from recast.lm.checkpoint import Checkpoint
    from recast.lm.dataset import LMData
    from recast.lm.device import Placement
    from recast.lm.pretrained import ModelReading
    from recast.lm.study import Cost, Entry, Tuned
    from recast.lm.update import RLSetup, RLTraining

TUNING_SEED = 1000
"""Seeds of tuning runs start here, so that no reporting run shares its draws with one."""
_TIMED_PROMPTS = 128


@dataclass(frozen=True)
class StudyPlan:
    """What the comparison consists of.

    starts: SFT checkpoints; seed s starts from number s modulo their count. how: training without
    rate and seed. stops: checkpoints to choose among. tuning: how many tuning seeds. placement:
    where to compute, None = on the CPU. reading, lora: as in `workbench.real.runs.build_setup`.
    """

    folder: Path
    starts: tuple[str | Path, ...]
    how: RLTraining
    entries: tuple[Entry, ...]
    rates: tuple[float, ...]
    stops: tuple[int, ...]
    seeds: int
    tuning: int
    metric: str
    eval_prompts: int | None
    placement: Placement | None = None
    reading: ModelReading | None = None
    lora: int = 0

    @property
    def store(self) -> Store:
        """Where the reporting runs lie."""
        return Store(self.folder / "store")


@dataclass(frozen=True)
class StudyRun:
    """One run. stop: its checkpoint, None for a tuning run, which passes all of them."""

    entry: Entry
    lr: float
    seed: int
    config: dict[str, Any]
    stop: int | None = None

    @property
    def key(self) -> str:
        """The run's name."""
        return run_key(self.config)


class Study:
    """A plan on a data folder, with its models loaded once."""

    def __init__(
        self, plan: StudyPlan, data: LMData, show: Callable[[Checkpoint], None] = lambda _: None
    ) -> None:
        """show: is given each start when it is opened."""
        from recast.lm.pretrained import identity

        self.plan, self.data, self._show = plan, data, show
        self.weights = [identity(str(start)) for start in plan.starts]
        self._setups = Setups()

    def tuning_tasks(self) -> list[StudyRun]:
        """Every entry at every rate over the tuning seeds."""
        seeds = range(TUNING_SEED, TUNING_SEED + self.plan.tuning)
        return [
            StudyRun(entry, lr, seed, self._config(entry, lr, seed, None))
            for seed in seeds
            for entry in self.plan.entries
            for lr in self.plan.rates
        ]

    def chosen(self) -> dict[str, Tuned] | None:
        """Rate and checkpoint of each entry, or None before every tuning run is there."""
        from recast.lm.study import choose

        tried: dict[str, dict[Tuned, list[float]]] = {e.label: {} for e in self.plan.entries}
        for task in self.tuning_tasks():
            found = self._tuned(task)
            if found is None:
                return None
            for stop in self.plan.stops:
                value = found.get(str(stop), {}).get(self.plan.metric, math.nan)
                tried[task.entry.label].setdefault((task.lr, stop), []).append(value)
        return {label: choose(values) for label, values in tried.items()}

    def tuning_table(self) -> pl.DataFrame:
        """strategy, lr, step, value (mean of the metric over tuning seeds), seeds, chosen."""
        chosen = self.chosen() or {}
        found: dict[tuple[str, float, int], list[float]] = {}
        for task in self.tuning_tasks():
            tuned = self._tuned(task) or {}
            for stop in self.plan.stops:
                value = tuned.get(str(stop), {}).get(self.plan.metric)
                if value is not None:
                    found.setdefault((task.entry.label, task.lr, stop), []).append(value)
        return pl.DataFrame(
            [
                {
                    "strategy": label,
                    "lr": lr,
                    "step": step,
                    "value": sum(values) / len(values),
                    "seeds": len(values),
                    "chosen": chosen.get(label) == (lr, step),
                }
                for (label, lr, step), values in found.items()
            ]
        )

    def report_tasks(self, chosen: dict[str, Tuned]) -> list[StudyRun]:
        """The paired runs, seed by seed, so that a cut study has whole seeds."""
        found = []
        for seed in range(self.plan.seeds):
            for entry in self.plan.entries:
                lr, stop = chosen[entry.label]
                found.append(StudyRun(entry, lr, seed, self._config(entry, lr, seed, stop), stop))
        return found

    def missing(self, tasks: Sequence[StudyRun]) -> list[StudyRun]:
        """Those that are not done."""
        return [
            task
            for task in tasks
            if not (self._tuning_file(task) if task.stop is None else self._prompts(task)).exists()
            or (task.stop is not None and not self.plan.store.has(task.key))
        ]

    def tune(self, task: StudyRun) -> None:
        """One tuning run: every metric on the tuning users at every checkpoint."""
        from recast.lm.study import measure, run
        from recast.lm.update import Diverged
        from recast.strategies import parse_strategy

        setup, how = self._fresh(task)
        found: dict[str, dict[str, float]] = {}
        try:
            strategy = parse_strategy(task.entry.strategy)
            for stop in run(setup, strategy, how, self.plan.stops, task.entry.iterate):
                table = measure(setup, setup.evaluation["validation"], how.group)
                found[str(stop.step)] = {k: float(v.mean()) for k, v in table.items()}
        except Diverged:
            pass  # the checkpoints it did not reach count as failed
        write_whole(json.dumps(found).encode(), self._tuning_file(task))

    def report(self, task: StudyRun) -> None:
        """One paired run: the test split at its end, kept per prompt and in the store."""
        from recast.ledger import CostLedger, RunRecord
        from recast.lm.evaluate import summarise
        from recast.lm.study import measure, policy_entropy, run
        from recast.strategies import parse_strategy

        assert task.stop is not None
        start, wanted = self.start(task.seed)
        setup, how = self._fresh(task)
        stops = run(
            setup, parse_strategy(task.entry.strategy), how, (task.stop,), task.entry.iterate
        )
        last = next(stops)  # while it is held, a mean of weights is what the model holds
        entropy, matched = policy_entropy(setup, wanted)
        rows: list[dict[str, Any]] = []
        for split, data in setup.evaluation.items():
            table = measure(setup, data, how.group, matched, report=True)
            if split == "test":
                self._write_prompts(self._prompts(task), table)
            ends = (
                (0, CostLedger(), dict.fromkeys(last.means), 1.0, wanted, start[split]),
                (last.step, last.ledger, last.means, matched, entropy, table),
            )
            for step, ledger, means, temperature, nats, values in ends:
                for label, quality in summarise(values, data.slices).items():
                    rows.append(
                        {
                            "split": split,
                            "slice": label,
                            "step": step,
                            **asdict(ledger),
                            **quality,
                            "entropy": nats,
                            "temperature_matched": None if math.isnan(temperature) else temperature,
                            "prompts": len(data),
                            **means,
                        }
                    )
        record: RunRecord = RunRecord(task.config, tuple(rows), world_values(setup))
        self.plan.store.prepare().write(task.key, record)

    def start(self, seed: int) -> tuple[dict[str, dict[str, Tensor]], float]:
        """The metrics of the start of this seed by split, and its entropy; measured once."""
        import torch

        from recast.lm.study import measure, policy_entropy

        place = seed % len(self.plan.starts)
        setup = self.setup(place)
        files = {split: self._start_file(place, split) for split in setup.evaluation}
        note = self._start_file(place, "entropy").with_suffix(".json")
        if not note.exists():
            for split, data in setup.evaluation.items():
                table = measure(setup, data, self.plan.how.group, report=True)
                self._write_prompts(files[split], table)
            write_whole(json.dumps(policy_entropy(setup)[0]).encode(), note)
        tables = {
            split: {
                name: torch.tensor(column.to_numpy()).double()
                for name, column in kept_table(path).to_dict().items()
            }
            for split, path in files.items()
        }
        return tables, kept_note(note, float)

    def values(self, task: StudyRun | int) -> pl.DataFrame:
        """Every metric of every test prompt of a reporting run, or of the start of a seed."""
        if isinstance(task, StudyRun):
            return kept_table(self._prompts(task))
        return kept_table(self._start_file(task % len(self.plan.starts), "test"))

    def costs(self) -> dict[str, Cost]:
        """What one step of each entry costs at the start, measured once and kept."""
        from recast.lm.study import Cost, cost
        from recast.strategies import parse_strategy

        found = {}
        for entry in self.plan.entries:
            task = StudyRun(entry, 1e-6, 0, self._config(entry, 1e-6, 0, None))
            path = self.plan.folder / "costs" / f"{task.key}.json"
            if not path.exists():
                setup, how = self._fresh(task)
                measured = cost(setup, parse_strategy(entry.strategy), how)
                write_whole(json.dumps(asdict(measured)).encode(), path)
            found[entry.label] = kept_note(path, lambda said: Cost(**said))
        return found

    def seconds(self, tuning: Sequence[StudyRun], report: Sequence[StudyRun] | int) -> float:
        """Seconds of these runs (`recast.lm.device.clock`), from measured steps and evaluations.

        report: the runs themselves, or how many there will be, each with the longest checkpoint.
        """
        from recast.lm.device import clock
        from recast.lm.study import measure

        costs, longest = self.costs(), max(self.plan.stops)
        setup = self.setup(0)
        data = setup.evaluation["validation"]
        part = data.first(_TIMED_PROMPTS)
        device = setup.target.device
        began = clock(device)
        measure(setup, part, self.plan.how.group)
        per_prompt = (clock(device) - began) / len(part)
        total = 0.0
        for task in tuning:
            step = costs[task.entry.label].step_cpu
            total += step * longest + per_prompt * len(data) * len(self.plan.stops)
        mean_step = sum(c.step_cpu for c in costs.values()) / len(costs)
        both = 1.3 * per_prompt * (len(data) + len(setup.evaluation["test"]))
        if isinstance(report, int):
            return total + report * (mean_step * longest + both)
        return total + sum(costs[t.entry.label].step_cpu * (t.stop or 0) + both for t in report)

    def _config(self, entry: Entry, lr: float, seed: int, stop: int | None) -> dict[str, Any]:
        plan, weights = self.plan, self.weights[seed % len(self.weights)]
        prompts, lora = plan.eval_prompts or 0, plan.lora
        shared = LMCell(self.data, weights, plan.how, prompts, plan.placement, plan.reading, lora)
        found = lm_run_config(shared, entry.strategy, lr, seed)
        # Runs of one study are one cell, whichever start their seed has.
        starts = [run_key({"files": weights}) for weights in self.weights]
        found["start_spec"] = {"weights": starts}
        shape = {k: found[k] for k in ("lm_engine", "world_spec", "policy_spec", "start_spec")}
        cell = run_key({**shape, **found["train_spec"]})[:8]
        found["train_spec"] |= {"stop": stop, "targets": entry.targets}
        if entry.iterate != "last":
            found["train_spec"]["iterate"] = entry.iterate
        if entry.schedule is not None:
            found["train_spec"]["schedule"] = entry.schedule
        return {**found, "strategy": entry.label, "cell": cell}

    def _fresh(self, task: StudyRun) -> tuple[RLSetup, RLTraining]:
        """The start of the task's seed with its own prompts, and how to train it."""
        import torch

        setup = self.setup(task.seed % len(self.plan.starts))
        if task.entry.targets == "train":
            rows = self.data.sft
            device = setup.target.device
            prompts = setup.vocabulary.prompts([row.history for row in rows]).to(device)
            target = torch.tensor([row.target for row in rows], device=device)
            setup = replace(setup, prompts=prompts, target=target, more=None)
        schedule = task.entry.schedule or self.plan.how.schedule
        return setup, replace(self.plan.how, lr=task.lr, seed=task.seed, schedule=schedule)

    def setup(self, place: int) -> RLSetup:
        """The setup of one start, its weights as they were."""
        from recast.lm.pretrained import AS_IT_IS

        plan = self.plan
        reference = needs_reference(plan.how, [entry.strategy for entry in plan.entries])
        # Of every start the model, its reference, and the weights to put back.
        held = len(plan.starts) * (1 + reference + (not plan.lora))
        reading = replace(plan.reading or AS_IT_IS, copies=held - 1 - reference)

        def build() -> RLSetup:
            setup, opened = build_setup(
                plan.starts[place],
                self.data,
                plan.eval_prompts,
                plan.placement,
                reading,
                plan.lora,
                reference,
            )
            self._show(opened)
            return setup

        return self._setups.fresh(place, build)

    def _tuning_file(self, task: StudyRun) -> Path:
        return self.plan.folder / "tuning" / f"{task.key}.json"

    def _tuned(self, task: StudyRun) -> dict[str, dict[str, float]] | None:
        path = self._tuning_file(task)
        if not path.exists():
            return None
        return kept_note(path, _tuning_note)

    def _prompts(self, task: StudyRun) -> Path:
        return self.plan.folder / "prompts" / f"{task.key}.parquet"

    def _start_file(self, place: int, split: str) -> Path:
        files = {"files": self.weights[place], "prompts": self.plan.eval_prompts}
        files["lm_engine"] = ENGINE
        return self.plan.folder / "prompts" / f"start-{run_key(files)}-{split}.parquet"

    def _write_prompts(self, path: Path, table: dict[str, Tensor]) -> None:
        frame = pl.DataFrame({name: value.float().numpy() for name, value in table.items()})
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        write_whole(buffer.getvalue(), path)


def run_missing(study: Study, tasks: Sequence[StudyRun], progress: Progress) -> Iterator[StudyRun]:
    """Do what is missing, one run after the other, yielding each that is done."""
    todo = study.missing(tasks)
    for place, task in enumerate(todo):
        kind = "tuning" if task.stop is None else "reporting"
        progress(place, len(todo), f"{kind} {task.entry.label} lr {task.lr:g} seed {task.seed}")
        (study.tune if task.stop is None else study.report)(task)
        yield task
    progress(len(todo), len(todo), "done")


def _tuning_note(said: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {stop: {k: float(v) for k, v in values.items()} for stop, values in said.items()}
