"""Who does the work of a sweep: what an executor is, and the one that works in this process.

An executor takes tasks and hands back events; it decides nothing about results, which are the same
whoever computes them.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from sim.allocator import keep_freed_memory
from workbench.errors import UserError
from workbench.execution.tasks import ReportStep, StartTask, Task, make_runs, make_starts

OnStep = Callable[[int, int], None]
"""Called with a ticket and the run-steps its task has done since the last call."""


@dataclass(frozen=True)
class Event:
    """The end of a task. done: result is what it returned; refused: result is one line for the
    user; crashed: result is a traceback; lost: whoever did it died, and it may be tried again."""

    ticket: int
    kind: Literal["done", "refused", "crashed", "lost"]
    result: Any = None


class Executor(Protocol):
    """Tasks in, events out."""

    @property
    def slots(self) -> int:
        """How many tasks may be in flight."""

    def submit(self, ticket: int, task: Task) -> None:
        """Take a task; never called with more than `slots` in flight."""

    def poll(self, timeout: float) -> list[Event]:
        """Ends of tasks since the last call, after at most about `timeout` seconds."""

    def close(self) -> None:
        """Stop at once whatever is in flight."""


def perform(task: Task, report: ReportStep) -> tuple[Literal["done", "refused", "crashed"], Any]:
    """Do a task; its errors become values, so that they can travel."""
    try:
        if isinstance(task, StartTask):
            return "done", make_starts(task, report)
        return "done", make_runs(task, report)
    except UserError as problem:
        return "refused", str(problem)
    except Exception:  # noqa: BLE001  a bug in one cell must not take the sweep down with it
        return "crashed", traceback.format_exc()


class Serial:
    """Everything in this process and thread, one task after the other."""

    slots = 1

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._waiting: list[tuple[int, Task]] = []
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)
        keep_freed_memory()

    def submit(self, ticket: int, task: Task) -> None:
        self._waiting.append((ticket, task))

    def poll(self, timeout: float) -> list[Event]:
        if not self._waiting:
            time.sleep(timeout)
            return []
        ticket, task = self._waiting.pop()
        return [Event(ticket, *perform(task, lambda steps: self._on_step(ticket, steps)))]

    def close(self) -> None:
        torch.set_num_threads(self._threads)
