"""Tasks on an existing Ray cluster, for sweeps that outgrow one machine.

Workers compute only; this process writes the store, so that no shared file system is needed for
it. A replay world's data folder must be readable under the same path on every node.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from workbench.executors import Event, perform
from workbench.spec import SpecError
from workbench.work import Task


def _perform(task: Task) -> Any:
    torch.set_num_threads(1)
    return perform(task, lambda _: None)


class RayTasks:
    """One Ray task per batch, one core each; a batch whose node died is reported lost."""

    def __init__(self, workers: int | None = None) -> None:
        """workers: batches in flight; by default the cluster's cores at this moment.

        Raises SpecError when Ray is not installed or no cluster runs.
        """
        try:
            import ray
        except ImportError:
            raise SpecError(
                "executor ray: Ray is not installed; pip install 'recast-workbench[ray]', "
                "or use --executor process"
            ) from None
        self._ray = ray
        self._connected = not ray.is_initialized()
        if self._connected:
            try:
                ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
            except ConnectionError:
                raise SpecError(
                    "executor ray: no running cluster found; start one with "
                    "`ray start --head`, or use --executor process"
                ) from None
        self._task = ray.remote(num_cpus=1, max_retries=0)(_perform)
        self.slots = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._flying: dict[Any, int] = {}

    def submit(self, ticket: int, task: Task) -> None:
        self._flying[self._task.remote(task)] = ticket

    def poll(self, timeout: float) -> list[Event]:
        ready, _ = self._ray.wait(list(self._flying), timeout=timeout) if self._flying else ([], [])
        events = []
        for reference in ready:
            ticket = self._flying.pop(reference)
            try:
                kind, content = self._ray.get(reference)
                events.append(Event(ticket, kind, content))
            except self._ray.exceptions.RayError:
                events.append(Event(ticket, "lost"))
        return events

    def close(self) -> None:
        for reference in self._flying:
            self._ray.cancel(reference, force=True)
        self._flying = {}
        if self._connected:
            self._ray.shutdown()
