"""Worker processes, one thread each: how a sweep trains on the cores of one machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType

import torch

from sim.allocator import keep_freed_memory
from workbench.execution.executors import Event, OnStep, perform
from workbench.execution.tasks import Task

_REPORT_EVERY = 0.1
_WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 1024**2),
}


class Processes:
    """Worker processes, one thread each, started when first needed.

    A worker that dies is replaced and its task reported lost. Workers ignore Ctrl-C (their parent
    decides) and end themselves when their parent is gone, even when it was killed.
    """

    def __init__(self, on_step: OnStep, workers: int | None = None) -> None:
        self.slots = workers or cores()
        self._on_step = on_step
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[tuple[BaseProcess, Connection]] = []
        self._busy: dict[Connection, tuple[BaseProcess, int]] = {}
        self._not_sent: list[Event] = []

    def submit(self, ticket: int, task: Task) -> None:
        process, pipe = self._idle.pop() if self._idle else self._start()
        try:
            _send(pipe, task)
        except OSError:
            _end(process, pipe)
            self._not_sent.append(Event(ticket, "lost"))
            return
        self._busy[pipe] = (process, ticket)

    def poll(self, timeout: float) -> list[Event]:
        events, self._not_sent = self._not_sent, []
        if not self._busy:
            if not events:
                time.sleep(timeout)
            return events
        for pipe in wait(list(self._busy), 0 if events else timeout):
            assert isinstance(pipe, Connection)
            process, ticket = self._busy[pipe]
            try:
                kind, content = pipe.recv()
            except (EOFError, OSError):
                del self._busy[pipe]
                _end(process, pipe)
                events.append(Event(ticket, "lost"))
                continue
            if kind == "steps":
                self._on_step(ticket, content)
            else:
                del self._busy[pipe]
                self._idle.append((process, pipe))
                events.append(Event(ticket, kind, content))
        return events

    def close(self) -> None:
        workers = [*self._idle, *((process, pipe) for pipe, (process, _) in self._busy.items())]
        self._idle, self._busy = [], {}
        for process, _ in workers:
            process.kill()
        for process, pipe in workers:
            _end(process, pipe)

    def _start(self) -> tuple[BaseProcess, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_worker, args=(theirs,), daemon=True)
        with _worker_environment():
            process.start()
        theirs.close()
        return process, ours


def _send(pipe: Connection, message: object) -> None:
    """By value. `pipe.send` would have torch share memory through a thread of the sender, which
    prints a traceback when the receiver is killed while it fetches."""
    pipe.send_bytes(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end(process: BaseProcess, pipe: Connection) -> None:
    process.kill()
    process.join()
    pipe.close()


@contextlib.contextmanager
def _worker_environment() -> Iterator[None]:
    """Large blocks stay with the allocator (it returns them to the system at each step otherwise),
    one thread each, and Ctrl-C blocked from the first instruction on."""
    resource_tracker.ensure_running()  # where it starts by itself, it unblocks Ctrl-C again
    # A worker needs nothing of the caller's main module, and to import it again is wrong where that
    # is a page of an app or a script without a guard.
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    before = {name: os.environ.get(name) for name in _WORKER_ENVIRONMENT}
    os.environ.update(_WORKER_ENVIRONMENT)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        sys.modules["__main__"] = main
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _worker(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    with contextlib.suppress(EOFError, OSError):
        while True:
            _serve(pipe)


def _serve(pipe: Connection) -> None:
    task: Task = pipe.recv()
    pending, last = 0, time.monotonic()

    def report(steps: int) -> None:
        nonlocal pending, last
        pending += steps
        now = time.monotonic()
        if now - last >= _REPORT_EVERY:
            _send(pipe, ("steps", pending))
            pending, last = 0, now

    _send(pipe, perform(task, report))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
