"""Tasks on an existing Ray cluster, for sweeps that outgrow one machine.

Workers compute only; this process writes the store, so that no shared file system is needed for
it. A replay world's data folder must be readable under the same path on every node.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import Any

import torch

from sim.allocator import keep_freed_memory
from workbench.errors import UserError
from workbench.execution.executors import Event, OnStep, perform
from workbench.execution.tasks import Task

_REPORT_EVERY = 1.0
_PATIENCE = 1.0


class _Counts:
    """Run-steps done in batches that are under way, by ticket; a Ray actor."""

    def __init__(self) -> None:
        self._steps: dict[int, int] = {}

    def add(self, ticket: int, steps: int) -> None:
        self._steps[ticket] = self._steps.get(ticket, 0) + steps

    def take(self) -> dict[int, int]:
        taken, self._steps = self._steps, {}
        return taken


def _perform(task: Task, ticket: int, counts: Any) -> Any:
    import ray

    torch.set_num_threads(1)
    keep_freed_memory()
    pending, last = 0, -math.inf

    def report(steps: int) -> None:
        nonlocal pending, last
        pending += steps
        now = time.monotonic()
        if pending and now - last >= _REPORT_EVERY:
            # When the counter's node is lost, progress shows fewer steps; no result changes.
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(counts.add.remote(ticket, pending))
            pending, last = 0, now

    return perform(task, report)


class RayTasks:
    """One Ray task per batch, one core each; a batch whose node died is reported lost."""

    def __init__(self, on_step: OnStep, workers: int | None = None) -> None:
        """workers: batches in flight; by default the cluster's cores at this moment.

        Raises UserError when Ray is not installed or no cluster runs.
        """
        try:
            import ray
        except ImportError:
            raise UserError(
                "executor ray: Ray is not installed; in the project's folder: "
                "pip install -e '.[ray]'; or use --executor process"
            ) from None
        self._ray = ray
        self._connected = not ray.is_initialized()
        if self._connected:
            try:
                ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
            except ConnectionError:
                raise UserError(
                    "executor ray: no running cluster found; start one with "
                    "`ray start --head`, or use --executor process"
                ) from None
        self._task = ray.remote(num_cpus=1, max_retries=0)(_perform)
        self.slots = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._on_step = on_step
        self._counts = ray.remote(num_cpus=0, max_restarts=-1)(_Counts).remote()
        self._asked: Any = None
        self._flying: dict[Any, int] = {}

    def submit(self, ticket: int, task: Task) -> None:
        self._flying[self._task.remote(task, ticket, self._counts)] = ticket

    def poll(self, timeout: float) -> list[Event]:
        ready, _ = self._ray.wait(list(self._flying), timeout=timeout) if self._flying else ([], [])
        self._show_steps()
        events = []
        for reference in ready:
            ticket = self._flying.pop(reference)
            try:
                kind, content = self._ray.get(reference)
                events.append(Event(ticket, kind, content))
            except self._ray.exceptions.RayError:
                events.append(Event(ticket, "lost"))
        return events

    def _show_steps(self) -> None:
        """Pass on what the batches in flight have done; a lost count is no error."""
        if self._asked is None:
            self._asked = self._counts.take.remote()
        if not self._ray.wait([self._asked], timeout=_PATIENCE)[0]:
            return
        asked, self._asked = self._asked, None
        try:
            steps = self._ray.get(asked)
        except self._ray.exceptions.RayError:
            return
        for ticket in steps.keys() & set(self._flying.values()):
            self._on_step(ticket, steps[ticket])

    def close(self) -> None:
        self._ray.kill(self._counts)
        for reference in self._flying:
            self._ray.cancel(reference, force=True)
        self._flying = {}
        if self._connected:
            self._ray.shutdown()
