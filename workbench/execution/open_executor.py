"""The executor of a name: this process, worker processes, or a Ray cluster."""

from __future__ import annotations

from workbench.errors import UserError
from workbench.execution.executor_names import NAMES
from workbench.execution.executors import Executor, OnStep, Serial
from workbench.execution.processes import Processes


def open_executor(name: str, on_step: OnStep, workers: int | None = None) -> Executor:
    """An executor by its name. Raises UserError for an unknown one, or a missing Ray."""
    if name == "serial":
        return Serial(on_step)
    if name == "process":
        return Processes(on_step, workers)
    if name == "ray":
        from workbench.execution.ray import RayTasks

        return RayTasks(on_step, workers)
    raise UserError(f"executor: unknown {name!r}; expected one of {', '.join(NAMES)}")
