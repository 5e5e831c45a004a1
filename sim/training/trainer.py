"""The loop: R runs of one strategy, trained together where that cannot be felt.

Runs differ in seed and learning rate. What a run returns is the same bit for bit whichever runs
stand beside it: draws come from its own streams, and everything (the kernel, the general path, the
evaluation) sees one run at a time, in memory of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from torch import Tensor

from sim.evaluate import Snapshot, snapshot
from sim.general.counts import Counted
from sim.general.runs import Learner, Runs, params_of_one
from sim.general.step import Collected
from sim.policies.protocol import Params, Policy
from sim.settings import Iterate, Training
from sim.training.learner import expected_path, fast_path, general_path
from sim.worlds.world import World

Row = dict[str, float | int | str | None]


@dataclass(frozen=True)
class TrainedRun:
    """rows: one mapping per (evaluation, split, slice). diverged_at: the step at which a
    parameter became NaN or larger than `LARGEST`; None for a healthy run. A diverged run is stopped
    there: it spends nothing more, and its later rows repeat the last healthy parameters.
    evaluating: wall seconds of its evaluations, the opening one excluded; no result."""

    rows: tuple[Row, ...]
    diverged_at: int | None
    evaluating: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Hooks:
    """What a caller is told while runs train; whatever it raises stops the training.

    progress: after each step, the number of run-steps done. watch: after each evaluation, a run's
    index and its new rows. record: each step, from 1, and what was rolled out in it; it needs a
    single run, which then takes the general path. look: a run's index, the step and the parameters
    that were evaluated, `[1, ...]`.
    """

    progress: Callable[[int], None] = lambda _: None
    watch: Callable[[int, list[Row]], None] = lambda *_: None
    record: Callable[[int, Collected], None] | None = None
    look: Callable[[int, int, Params], None] | None = None

    def of(self, run: int) -> Hooks:
        """The hooks of one run that trains alone, by its index among its siblings."""
        look = self.look
        return Hooks(
            self.progress,
            lambda _, rows: self.watch(run, rows),
            self.record,
            None if look is None else lambda _, step, params: look(run, step, params),
        )


def train(
    runs: Runs,
    rates: Tensor,
    hooks: Hooks = Hooks(),
    opening: Sequence[Snapshot] | None = None,
) -> list[TrainedRun]:
    """Train R runs; rates `[R]` are Adam's. Raises ValueError as `train_for` does.

    opening: the evaluation of each run's start, when the caller has it already.
    """
    (found,) = train_for(runs, rates, (runs.how.iterate,), hooks, opening)
    return found


def train_for(
    runs: Runs,
    rates: Tensor,
    iterates: Sequence[Iterate],
    hooks: Hooks = Hooks(),
    opening: Sequence[Snapshot] | None = None,
) -> list[list[TrainedRun]]:
    """As `train`, but measured at each of the iterates in place of `runs.how`'s: what the R runs
    gave for each, from one training.

    Raises ValueError for a target that is not in the catalogue, for several runs to record, and
    where `runs.how` asks for expected updates that do not exist or would have to be recorded.
    """
    _check_targets(runs.world)
    several = len(runs.seeds)
    if hooks.record is not None and several > 1:
        raise ValueError(f"record: expected a single run, got {several}")
    learner = _together(runs, hooks)
    if opening is None:
        opening = [
            open_run(runs.policy, params_of_one(runs.start, run), runs.world, runs.how)
            for run in range(several)
        ]
    if learner is not None:
        return _trained([_Record(runs, learner, opening, hooks, one) for one in iterates], rates)
    found: list[list[TrainedRun]] = [[] for _ in iterates]
    for run in range(several):
        alone = general_path(runs.one(run), hooks.record)
        mine = [
            _Record(runs, alone, opening[run : run + 1], hooks.of(run), one) for one in iterates
        ]
        for all_runs, this in zip(found, _trained(mine, rates[run : run + 1]), strict=True):
            all_runs += this
    return found


def _together(runs: Runs, hooks: Hooks) -> Learner | None:
    """What trains all runs in one go; None where each must take the general path."""
    if runs.how.updates == "expected":
        if hooks.record is not None:
            raise ValueError("record: expected updates roll nothing out")
        return expected_path(runs)
    return None if hooks.record else fast_path(runs)


def _trained(records: Sequence[_Record], rates: Tensor) -> list[list[TrainedRun]]:
    """The loop over steps: all runs of a learner from the first evaluation to the last, each
    evaluated for every record."""
    how, learner, mean, step = records[0].how, records[0].learner, _Mean(), 0
    averaged = any(record.iterate == "mean" for record in records)
    for record in records:
        record.evaluate(0, learner.params)
    grid = [round(how.steps * (i + 1) / how.evaluations) for i in range(how.evaluations)]
    for end in sorted({point for point in grid if point}):
        while step < end:
            left = 1 - step / how.steps if how.schedule == "linear" else 1.0
            done = learner.advance(rates * left, step, _stride(how, step, end, averaged))
            for _ in range(done):
                records[0].hooks.progress(len(rates))
            step += done
            if averaged and 2 * step > how.steps:
                mean.add(learner.params)
        _measure(records, end, learner.params, mean)
    return [
        [
            TrainedRun(tuple(rows), at, seconds)
            for rows, at, seconds in zip(
                record.rows, learner.diverged_at, record.evaluating, strict=True
            )
        ]
        for record in records
    ]


def _measure(records: Sequence[_Record], step: int, last: Params, mean: _Mean) -> None:
    """Evaluate every record; until there is a mean all of them look at the same parameters."""
    for place, record in enumerate(records):
        if record.iterate == "mean" and mean.count:
            record.evaluate(step, mean.params)
        elif place and not mean.count:
            record.repeat(records[0], step, last)
        else:
            record.evaluate(step, last)


def _stride(how: Training, step: int, end: int, averaged: bool) -> int:
    """Steps until somebody has to look: at a new rate, at an iterate that is averaged (those after
    half of the steps), at an evaluation."""
    if how.schedule == "linear":
        return 1
    half = how.steps // 2
    if not averaged or end <= half:
        return end - step
    return half - step if step < half else 1


class _Record:
    """The evaluations of a learner's runs so far, at one iterate: rows of each run, and seconds
    that they took."""

    def __init__(
        self,
        runs: Runs,
        learner: Learner,
        opening: Sequence[Snapshot],
        hooks: Hooks,
        iterate: Iterate,
    ) -> None:
        self.how, self.learner, self.hooks, self.iterate = runs.how, learner, hooks, iterate
        self.rows: list[list[Row]] = [[] for _ in opening]
        self.evaluating = [0.0] * len(opening)
        self._policy, self._world, self._opening = runs.policy, runs.world, opening
        self._before = [now.temperature for now in opening]
        self._marks = [Counted()] * len(opening)

    def evaluate(self, step: int, params: Params) -> None:
        """Evaluate every run after a step, and tell the caller."""
        for run in range(len(self.rows)):
            began = time.perf_counter()
            now = self._snapshot(run, step, params)
            counted, mark = self.learner.counted(run), self._marks[run]
            self._marks[run] = counted
            self.rows[run] += [
                {
                    "split": split,
                    "slice": label,
                    "step": step,
                    **asdict(counted.ledger),
                    **values,
                    "temperature_matched": float(now.temperature),
                    **counted.taught_since(mark),
                }
                for split, (found,) in now.found.items()
                for label, values in found.items()
            ]
            self.evaluating[run] += time.perf_counter() - began
        self._tell(step, params)

    def repeat(self, other: _Record, step: int, params: Params) -> None:
        """What another record has just found at the same parameters, after the same steps."""
        for mine, rows in zip(self.rows, other.rows, strict=True):
            mine += [dict(row) for row in rows if row["step"] == step]
        self._before, self._marks = [*other._before], [*other._marks]
        self._tell(step, params)

    def _tell(self, step: int, params: Params) -> None:
        for run, rows in enumerate(self.rows):
            self.hooks.watch(run, [row for row in rows if row["step"] == step])
            if self.hooks.look is not None:
                self.hooks.look(run, step, params_of_one(params, run))

    def _snapshot(self, run: int, step: int, params: Params) -> Snapshot:
        """One run as it stands; the start has been evaluated already."""
        opening, how = self._opening[run], self.how
        if not step:
            return opening
        now = snapshot(
            self._policy,
            params_of_one(params, run),
            self._world,
            how,
            full=step == how.steps,
            matching=opening.entropy,
            near=self._before[run],
        )
        self._before[run] = now.temperature
        return now


class _Mean:
    """Running mean of parameters."""

    def __init__(self) -> None:
        self.params: Params = {}
        self.count = 0

    def add(self, params: Params) -> None:
        """Count one more iterate."""
        self.count += 1
        if self.count == 1:
            self.params = {name: value.clone() for name, value in params.items()}
        for name, value in params.items():
            self.params[name].lerp_(value, 1 / self.count)


def open_run(policy: Policy, start: Params, world: World, how: Training) -> Snapshot:
    """The evaluation of one run's start; parameters with a run axis of one."""
    return snapshot(policy, start, world, how)


def _check_targets(world: World) -> None:
    last = world.catalogue.items - 1
    for split in (world.train, world.validation, world.test):
        stray = split.target[(split.target < 0) | (split.target > last)]
        if len(stray):
            raise ValueError(
                f"target {int(stray[0])} is not in the catalogue; expected an item in 0..{last}"
            )
