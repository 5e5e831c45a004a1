"""Run a sweep: what is missing from the store, in batches, on an executor, until it is stored.

This process alone writes. Whatever stops it, what is stored is complete, and the same call goes on
from there.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from recast.ledger import RunRecord
from recast.progress import Progress
from sim.worlds.world import World
from workbench.analysis.tuning import beyond_the_edge, tried
from workbench.errors import UserError
from workbench.execution.executors import Event, Executor
from workbench.execution.interruption import Interruption
from workbench.execution.open_executor import open_executor
from workbench.execution.tasks import StartTask, Task, Trained, TrainTask, build_world
from workbench.execution.warm_starts import Starts
from workbench.plurals import number_of
from workbench.spec.experiment import Experiment
from workbench.spec.row_names import trained_row
from workbench.spec.sweep import Run, Sweep, Tune
from workbench.store.files import WorkLock, replace, sha256
from workbench.store.runs import Store

BATCH = 8
"""Most runs in one tensor program: more no longer fit the processor's cache."""

_TRIES = 3
_TURN = 0.2
_PATIENCE = 5.0
"""Seconds of waiting for another process alone, after which that is said."""
_log = logging.getLogger("recast")


@dataclass
class SweepOutcome:
    """keys: every run of the sweep; reused: those that were stored before; trained: those that this
    call trained; failures: one line per run that could not be done, by key; repaired: damaged files
    set aside and done again."""

    keys: list[str]
    reused: int = 0
    trained: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    repaired: list[str] = field(default_factory=list)

    def first_failure(self) -> str:
        """One line for the user about everything that failed."""
        reasons = list(dict.fromkeys(self.failures.values()))
        more = f" (and {len(reasons) - 1} more reasons)" if len(reasons) > 1 else ""
        done = len(self.keys) - len(self.failures)
        kept = f"; {number_of(done, 'other run is', 'other runs are')} stored" if done else ""
        return f"{reasons[0]}{more}{kept}"


def run_experiment(
    spec: Experiment,
    store: Store,
    progress: Progress = lambda *_: None,
    executor: str = "process",
    workers: int | None = None,
) -> tuple[World, list[str]]:
    """Train what is missing from the store and return the world and the keys of all runs.

    Raises UserError for a warm start out of reach, and DiskError when the disk refuses.
    """
    world = build_world(spec)
    sweep = Sweep.model_validate(spec.model_dump())
    outcome = run_sweep(sweep, store, progress, executor, workers)
    if outcome.failures:
        raise UserError(outcome.first_failure())
    return world, outcome.keys


def run_sweep(
    sweep: Sweep,
    store: Store,
    progress: Progress = lambda *_: None,
    executor: str = "process",
    workers: int | None = None,
) -> SweepOutcome:
    """Do what is missing of a sweep, extend the learning-rate grids that it asks to extend, and
    record in `STORE/sweeps` what it consisted of and which rates were tried and chosen.

    Raises UserError for a sweep that cannot be expanded, DiskError when the disk refuses, and
    KeyboardInterrupt after Ctrl-C or SIGTERM; finished runs are kept in each case.
    """
    runs = sweep.runs()
    outcome = run_all(runs, store, progress, executor, workers)
    for _ in range(sweep.tune.extend if sweep.tune else 0):
        assert sweep.tune is not None
        held = [run for run in runs if store.has(run.key)]
        more = beyond_the_edge(held, store.load(run.key for run in held), sweep.tune)
        if not more:
            break
        runs += more
        extended = run_all(more, store, progress, executor, workers)
        outcome.keys += extended.keys
        outcome.reused += extended.reused
        outcome.trained += extended.trained
        outcome.failures |= extended.failures
    record_sweep(sweep, store, outcome)
    return outcome


def run_all(
    runs: Sequence[Run],
    store: Store,
    progress: Progress = lambda *_: None,
    executor: str = "process",
    workers: int | None = None,
) -> SweepOutcome:
    """Do those runs that the store lacks; see `run_sweep`."""
    todo = {run.key: run for run in runs}
    outcome = SweepOutcome(list(todo))
    faults = store.contents(todo).damaged
    for fault in faults:
        _log.warning("%s; set aside, its run is done again", fault)
    store.quarantine(faults)
    outcome.repaired = [fault.key for fault in faults]
    missing = [run for key, run in todo.items() if not store.has(key)]
    outcome.reused = len(todo) - len(missing)
    if missing:
        with Interruption() as stop:
            _Session(missing, store, outcome, progress, stop).work(executor, workers)
    return outcome


def batches(runs: Iterable[Run], workers: int) -> list[list[Run]]:
    """Runs that may share a tensor program (one cell, one strategy), at most `BATCH` trainings
    together and fewer when there would not be enough for every worker. A run and the one at its
    averaged weights are one training."""
    groups: dict[tuple[str, str], dict[tuple[float, int], list[Run]]] = {}
    for run in runs:
        group = groups.setdefault((run.config["cell"], trained_row(run.strategy)), {})
        group.setdefault((run.lr, run.seed), []).append(run)
    total = sum(len(group) for group in groups.values())
    size = max(1, min(BATCH, -(-total // (2 * workers))))
    found = []
    for trainings in map(list, map(dict.values, groups.values())):
        parts = -(-len(trainings) // size)
        edges = [round(len(trainings) * part / parts) for part in range(parts + 1)]
        for low, high in itertools.pairwise(edges):
            found.append(list(itertools.chain.from_iterable(trainings[low:high])))
    return found


@dataclass
class _Flight:
    task: Task
    runs: list[Run]
    locks: dict[str, WorkLock]
    steps: int = 0


class _Session:
    """One call's worth of scheduling: what waits, what is in flight, what came of it."""

    def __init__(
        self,
        missing: list[Run],
        store: Store,
        outcome: SweepOutcome,
        progress: Progress,
        stop: Interruption,
    ) -> None:
        self._missing = missing
        self._store, self._starts = store, Starts(store.root)
        self._outcome, self._progress, self._stop = outcome, progress, stop
        self._flying: dict[int, _Flight] = {}
        self._tickets = itertools.count()
        self._locks: list[WorkLock] = []
        self._lost: dict[str, int] = {}
        self._failed_starts: dict[str, str] = {}
        self._done = 0
        self._total = sum(run.experiment.train.steps for run in missing)
        self._text = "starting"
        self._waits_since: float | None = None
        self._told: set[str] = set()

    def work(self, name: str, workers: int | None) -> None:
        """Until nothing is missing; closes the executor and drops every lock on any exit."""
        executor = open_executor(name, self._on_step, workers)
        waiting = batches(self._missing, executor.slots)
        try:
            self._show()
            while waiting or self._flying:
                self._stop.check()
                waiting = self._fill(executor, waiting)
                if not waiting and not self._flying:
                    break
                for event in executor.poll(_TURN):
                    waiting += self._settle(event)
                self._tell(waiting)
                self._show()
        finally:
            executor.close()
            for lock in self._locks:
                lock.drop(done=False)

    def _tell(self, waiting: list[list[Run]]) -> None:
        """Name, once each, the processes that all that is left waits for."""
        if self._flying or not waiting:
            self._waits_since = None
            return
        now = time.monotonic()
        self._waits_since = self._waits_since or now
        if now - self._waits_since < _PATIENCE:
            return
        for run in (run for batch in waiting for run in batch):
            for key in (run.start, run.key):
                lock = WorkLock(self._store.root / "claims" / key)
                owner = lock.owner()
                if owner and owner not in self._told:
                    self._told.add(owner)
                    how = (
                        "stopped; `kill -CONT` or end it" if lock.owner_is_stopped() else "at work"
                    )
                    _log.warning("waiting for %s, which has claimed %s and is %s", owner, key, how)

    def _on_step(self, ticket: int, steps: int) -> None:
        self._stop.check()
        self._flying[ticket].steps += steps
        self._show()

    def _show(self) -> None:
        flying = sum(flight.steps for flight in self._flying.values())
        self._progress(min(self._done + flying, self._total), self._total, self._text)

    def _fill(self, executor: Executor, waiting: list[list[Run]]) -> list[list[Run]]:
        """Hand out work while there is room; what remains waits, in order."""
        remain: list[list[Run]] = []
        for place, batch in enumerate(waiting):
            if len(self._flying) >= executor.slots:
                return remain + waiting[place:]
            left = self._try(executor, batch)
            if left:
                remain.append(left)
        return remain

    def _try(self, executor: Executor, batch: list[Run]) -> list[Run]:
        """Submit a batch, or the warm starts it needs first; returns the runs that still wait:
        because their start is being made, or because another process has claimed them."""
        batch = self._still_missing(batch)
        lacking = {run.start: run for run in batch if not self._starts.has(run.start)}
        if lacking:
            locks = self._locked(lacking, self._starts.has)
            if locks:
                chosen = [lacking[key] for key in locks]
                seeds = tuple(run.seed for run in chosen)
                task = StartTask(chosen[0].experiment, seeds)
                self._submit(executor, _Flight(task, chosen, locks))
            return batch
        locks = self._locked({run.key: run for run in batch}, self._store.has)
        mine = [run for run in batch if run.key in locks]
        starts = [self._starts.load(run.start) for run in mine]
        if not mine or any(start is None for start in starts):
            for lock in locks.values():
                lock.drop(done=False)
            return batch
        train = TrainTask(
            mine[0].experiment,
            tuple(run.strategy for run in mine),
            tuple(run.lr for run in mine),
            tuple(run.seed for run in mine),
            tuple(start for start in starts if start is not None),
        )
        self._submit(executor, _Flight(train, mine, locks))
        return [run for run in batch if run.key not in locks]

    def _still_missing(self, batch: list[Run]) -> list[Run]:
        left = []
        for run in batch:
            if self._store.has(run.key):
                self._done += run.experiment.train.steps
            elif run.start in self._failed_starts:
                self._fail([run], self._failed_starts[run.start])
            else:
                left.append(run)
        return left

    def _locked(self, wanted: Iterable[str], done: Callable[[str], bool]) -> dict[str, WorkLock]:
        """Locks on those names that nobody works on and that are still not done."""
        self._locks = [lock for lock in self._locks if lock.held]
        locks = {}
        for key in wanted:
            lock = WorkLock(self._store.root / "claims" / key)
            self._locks.append(lock)
            if not lock.take():
                continue
            if done(key):
                lock.drop(done=True)
            else:
                locks[key] = lock
        return locks

    def _submit(self, executor: Executor, flight: _Flight) -> None:
        ticket = next(self._tickets)
        self._flying[ticket] = flight
        first = flight.runs[0]
        if isinstance(flight.task, StartTask):
            self._text = f"warm start to {first.experiment.start.all_zero:.3g} all-zero groups"
        else:
            rows = ", ".join(dict.fromkeys(run.strategy for run in flight.runs))
            self._text = f"{rows}, lr {first.lr:g}, {number_of(len(flight.runs), 'run')}"
        executor.submit(ticket, flight.task)

    def _settle(self, event: Event) -> list[list[Run]]:
        """Store what came of a task, or note why nothing did; returns the runs to try again."""
        flight = self._flying.pop(event.ticket)
        done = event.kind == "done"
        try:
            if done and isinstance(flight.task, StartTask):
                for key, start in zip(flight.locks, event.result, strict=True):
                    self._starts.save(key, start)
            elif done:
                for run, result in zip(flight.runs, event.result, strict=True):
                    self._store.write(run.key, *_record(run, result))
                    self._outcome.trained += 1
                self._done += sum(run.experiment.train.steps for run in flight.runs)
        finally:
            for key, lock in flight.locks.items():
                lock.drop(done=done and (self._store.has(key) or self._starts.has(key)))
        if done:
            return []
        text = str(event.result)
        if event.kind == "crashed":
            _log.error("%s", text)
            text = f"{flight.runs[0].strategy}: crashed: {text.strip().splitlines()[-1]}"
        elif event.kind == "lost":
            names = [run.key for run in flight.runs]
            tries = 1 + max(self._lost.get(name, 0) for name in names)
            self._lost |= dict.fromkeys(names, tries)
            if tries < _TRIES:
                return [] if isinstance(flight.task, StartTask) else [flight.runs]
            text = f"its worker died {tries} times (out of memory?); try fewer --workers"
        if isinstance(flight.task, StartTask):
            self._failed_starts |= {run.start: text for run in flight.runs}
        else:
            self._fail(flight.runs, text)
        return []

    def _fail(self, runs: list[Run], text: str) -> None:
        self._outcome.failures |= {run.key: text for run in runs}
        self._done += sum(run.experiment.train.steps for run in runs)


def _record(run: Run, result: Trained) -> tuple[RunRecord, dict[str, Any]]:
    record = RunRecord(run.config, tuple(result.rows), result.world, result.diverged_at)
    took = {"seconds": round(result.seconds, 3), "evaluating": round(result.evaluating, 3)}
    return record, {**took, **result.arithmetic, "data": run.experiment.world.data}


def record_sweep(sweep: Sweep, store: Store, outcome: SweepOutcome) -> None:
    """Write `STORE/sweeps/<name>-<hash>.json`: the sweep, its runs, every rate tried and the one
    chosen per strategy and cell. Raises DiskError."""
    text = sweep.model_dump_json()
    content: dict[str, Any] = {
        "schema_version": 1,
        "sweep": json.loads(text),
        "runs": sorted(set(outcome.keys) - outcome.failures.keys()),
        "failures": outcome.failures,
        "tuning": [],
    }
    if content["runs"]:
        tune = sweep.tune or Tune(lr=sweep.train.lr, metric=sweep.train.tune_metric)
        content["tuning"] = tried(store.load(content["runs"]), tune.metric, tune.split).to_dicts()
    name = f"{sweep.name}-{sha256(text.encode())[:8]}.json"
    replace(json.dumps(content, indent=1).encode(), store.root / "sweeps" / name)
