"""Findings while a trainer runs, in its own tracker: a callback for TRL and a hook for verl.

They live here and not in `recast.adapters`, because recast must not depend on the workbench;
neither trl nor verl is imported.

    from workbench.diagnosis.live import DiagnosisCallback
    trainer = GRPOTrainer(...)
    DiagnosisCallback().attach(trainer)      # before its trackers, so that they log the findings

    from workbench.diagnosis.live import diagnose_verl
    diagnose_verl(tracking)                  # verl.utils.tracking.Tracking: its `log` is extended

Each scalar `diagnosis/<finding>` is 2 for a problem, 1 for a note and 0 when it is over;
`diagnosis/problems` counts. Nothing raised here reaches the trainer: the first failure is one
warning, and the diagnosis ends. Its own time is measured and kept below `SHARE` of the run's:
checks wait until enough of the run has passed.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from workbench.diagnosis.findings.finding import Finding
from workbench.diagnosis.findings.scalars import BREAK, MEANS, curves_of_points, examine_scalars
from workbench.diagnosis.logs.scalar_names import function_of, meaning

SHARE = 0.008
"""Of the time since the first step, what the diagnosis may take; with what it costs to keep every
step's scalars that is below 1% (`python benchmarks/live.py`)."""

MOST = 2000
"""Steps kept; of a longer run every second one is dropped, again and again."""

LEVELS = {"note": 1.0, "problem": 2.0}
_LOG = logging.getLogger("recast")
_NAMES = {one: name for name, meanings in MEANS.items() for one in meanings}


class LiveDiagnosis:
    """Scalars of one run as they come. clock: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.points: dict[str, dict[int, tuple[int, float]]] = {}
        self.functions: dict[str, dict[int, float]] = {}
        self.findings: tuple[Finding, ...] = ()
        self.begun: float | None = None
        self.spent = self.cost = 0.0
        self.dead = False
        self.ever: set[str] = set()
        self.warned: set[str] = set()

    def add(self, step: int, scalars: Mapping[str, Any]) -> dict[str, float]:
        """Take one step's scalars; returns what to log beside them. Never raises."""
        if self.dead:
            return {}
        start = self.clock()
        self.begun = start if self.begun is None else self.begun
        try:
            known = self._keep(step, scalars)
            # The checks of before say how long the next ones will take.
            if known and self.spent + self.cost <= SHARE * (start - self.begun):
                before = self.clock()
                self._examine()
                self.cost = self.clock() - before
            return self.flags()
        except Exception as problem:  # noqa: BLE001 - a run must not end for its diagnosis
            self._end(problem)
            return {}
        finally:
            self.spent += self.clock() - start

    def add_to(self, scalars: MutableMapping[str, Any], step: Any) -> None:
        """Take one step's scalars, and put the findings beside them. Never raises."""
        try:
            scalars.update(self.add(int(step), dict(scalars)))
        except Exception as problem:  # noqa: BLE001 - as above
            self._end(problem)

    def _end(self, problem: Exception) -> None:
        if not self.dead:
            _LOG.warning("diagnosis ended: %s: %s", type(problem).__name__, problem)
        self.dead = True

    def flags(self) -> dict[str, float]:
        """The findings as scalars."""
        found = {f"diagnosis/{one.name}": LEVELS[one.level] for one in self.findings}
        problems = sum(one.level == "problem" for one in self.findings)
        over = {name: 0.0 for name in self.ever if name not in found}
        return {**found, **over, "diagnosis/problems": float(problems)}

    def _keep(self, step: int, scalars: Mapping[str, Any]) -> bool:
        known = False
        for name, value in scalars.items():
            function, said = function_of(str(name)), meaning(str(name))
            if not function and (said is None or said[0] not in _NAMES):
                continue
            try:
                number = float(value)
            except Exception:  # noqa: BLE001 - trackers take more than numbers
                continue
            if function:
                _keep_one(self.functions.setdefault(function, {}), step, number)
            if said is None or said[0] not in _NAMES:
                continue
            if not math.isfinite(number) and said[0] not in BREAK:
                continue
            mine = self.points.setdefault(said[0], {})
            # Of several names of one quantity the surest counts.
            if step not in mine or mine[step][0] >= said[1]:
                mine[step] = (said[1], number)
            if len(mine) > MOST:
                self.points[said[0]] = dict(list(mine.items())[::2])
            known = True
        return known

    def _examine(self) -> None:
        points = {
            name: ([float(step) for step in mine], [value for _, value in mine.values()])
            for name, mine in self.points.items()
        }
        functions = {
            name: ([float(step) for step in mine], list(mine.values()))
            for name, mine in self.functions.items()
        }
        curves = curves_of_points(points, functions)
        self.findings = examine_scalars(curves).findings if curves else ()
        self.ever |= {f"diagnosis/{finding.name}" for finding in self.findings}
        for finding in self.findings:
            # Said once: one that comes and goes stays in the scalars.
            if finding.level == "problem" and finding.name not in self.warned:
                self.warned.add(finding.name)
                _LOG.warning("%s: %s %s", finding.name, finding.says, finding.do)


def _keep_one(mine: dict[int, float], step: int, number: float) -> None:
    """A reward function's mean, until it moves: whether it ever does is all that is asked."""
    if not mine or (len(mine) < MOST and mine[next(iter(mine))] == mine[next(reversed(mine))]):
        mine[step] = number


class DiagnosisCallback:
    """A `transformers.TrainerCallback` (by its methods: transformers is not imported).

    `attach(trainer)` puts it before the trackers, so that they log what it finds. Given as
    `callbacks=[DiagnosisCallback()]` it comes after them and only warns.
    """

    def __init__(self, live: LiveDiagnosis | None = None) -> None:
        self.live = live or LiveDiagnosis()

    def attach(self, trainer: Any) -> DiagnosisCallback:
        """Put it before the callbacks that a trainer has."""
        trainer.callback_handler.callbacks.insert(0, self)
        return self

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong so far."""
        return self.live.findings

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: MutableMapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Take the scalars that the trainer logs, and add the findings to them."""
        if logs is not None and getattr(state, "is_world_process_zero", True):
            self.live.add_to(logs, getattr(state, "global_step", 0))

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Every other event of a trainer passes by."""
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(name)


def _nothing(*_: Any, **__: Any) -> None:
    """Returns None: the trainer's control stays what it is."""


def diagnose_verl(tracking: Any, live: LiveDiagnosis | None = None) -> LiveDiagnosis:
    """Extend a verl `Tracking`, or anything with `log(data, step)`, by the findings."""
    found, log = live or LiveDiagnosis(), tracking.log

    def extended(data: Mapping[str, Any], step: int, *more: Any, **options: Any) -> Any:
        mine = dict(data) if isinstance(data, Mapping) else data
        if isinstance(mine, dict):
            found.add_to(mine, step)
        return log(mine, step, *more, **options)

    tracking.log = extended
    return found
