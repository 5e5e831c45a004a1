"""Several processes on one store: whose run it is, who waits, and what is said meanwhile."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import signal
import subprocess
import sys

import pytest
from sweeping import TINY, copied, payload_bytes

import workbench.execution.executors
import workbench.execution.runner
from workbench.execution.executors import Event, Serial
from workbench.execution.runner import run_all, run_sweep
from workbench.store.files import WorkLock
from workbench.store.runs import Store


def test_runs_that_another_process_has_claimed_are_left_to_it(tmp_path):
    store = Store(tmp_path).prepare()
    small = TINY.model_copy(update={"strategies": ("sft",), "grid": {}, "seeds": 2})
    runs = small.runs()
    lock = WorkLock(tmp_path / "claims" / runs[0].key)
    assert lock.take()
    polls = 0

    class Watching(Serial):
        def poll(self, timeout: float) -> list[Event]:
            nonlocal polls
            polls += 1
            if not self._waiting and polls > 5:
                lock.drop(done=False)
            return super().poll(0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            workbench.execution.runner, "open_executor", lambda n, on_step, w: Watching(on_step)
        )
        run_all(runs, store)
    assert polls > 5
    assert len(store.files()) == 4
    times = {path.parent.name: path.stat().st_mtime_ns for path in store.files()}
    assert max(times, key=times.__getitem__) == runs[0].key


@pytest.mark.parametrize("stopped", [True, False])
def test_waiting_behind_another_process_says_whose_claim_it_is_and_whether_it_is_stopped(
    stopped, reference, tmp_path, monkeypatch, caplog
):
    """The claim is given up when the waiting process has said that it waits."""
    store = copied(reference, tmp_path)
    key = TINY.runs()[0].key
    shutil.rmtree(tmp_path / "runs" / key)
    monkeypatch.setattr(workbench.execution.runner, "_PATIENCE", 0.0)
    claim = WorkLock(tmp_path / "claims" / key)
    assert claim.take()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        if stopped:
            other.send_signal(signal.SIGSTOP)
            os.waitpid(other.pid, os.WUNTRACED)
        (tmp_path / "claims" / key).write_text(f"process {other.pid} on {platform.node()}\n")

        class GiveUp(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                claim.drop(done=False)

        handler = GiveUp()
        logging.getLogger("recast").addHandler(handler)
        try:
            outcome = run_sweep(TINY, store, executor="serial")
        finally:
            logging.getLogger("recast").removeHandler(handler)
            other.kill()
    assert not outcome.failures
    how = "stopped; `kill -CONT` or end it" if stopped else "at work"
    said = [one.getMessage() for one in caplog.records if "waiting" in one.getMessage()]
    wanted = f"waiting for process {other.pid} on {platform.node()}, which has claimed {key}"
    assert said == [f"{wanted} and is {how}"]
    assert payload_bytes(tmp_path) == payload_bytes(reference)


def test_a_run_that_another_process_ends_just_before_the_claim_is_not_done_twice(
    reference, tmp_path, monkeypatch
):
    class LateLock(WorkLock):
        def take(self) -> bool:
            for kind in ("starts", "runs"):
                if (reference / kind / self._path.name).is_dir():
                    there = tmp_path / kind / self._path.name
                    shutil.copytree(reference / kind / self._path.name, there)
            return super().take()

    monkeypatch.setattr(workbench.execution.runner, "WorkLock", LateLock)
    outcome = run_sweep(TINY, Store(tmp_path).prepare(), executor="serial")
    assert (outcome.trained, outcome.reused, len(outcome.keys)) == (0, 0, 36)
    assert payload_bytes(tmp_path) == payload_bytes(reference)
