"""The runner: identical results whoever computes, only what is missing, failures kept apart."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from sweeping import TINY, copied, payload, payload_bytes

import workbench.execution.executors
import workbench.execution.runner
import workbench.execution.tasks
from sim.evaluate import Snapshot
from workbench.errors import DiskError, UserError
from workbench.execution.executors import Event, Serial
from workbench.execution.interruption import Interruption
from workbench.execution.open_executor import open_executor
from workbench.execution.processes import Processes
from workbench.execution.runner import batches, run_sweep
from workbench.execution.tasks import Start, StartTask
from workbench.execution.warm_starts import Starts
from workbench.spec.sweep import Sweep, Tune
from workbench.store.files import WorkLock
from workbench.store.runs import Store


def test_processes_give_the_same_bytes_as_one_process(reference, tmp_path):
    outcome = run_sweep(TINY, Store(tmp_path).prepare(), executor="process", workers=2)
    assert len(outcome.keys) == 2 * 3 * 2 * 3
    assert payload_bytes(tmp_path) == payload_bytes(reference)


def test_batches_of_one_give_the_same_bytes_as_batches_of_eight(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(workbench.execution.runner, "BATCH", 1)
    run_sweep(TINY, Store(tmp_path).prepare(), executor="serial")
    assert payload_bytes(tmp_path) == payload_bytes(reference)


NUMBERS = {
    (4, "grpo"): (0.1759590264937225, 128),
    (4, "recast"): (0.17290894961246311, 64),
    (4, "sft"): (0.18104400748589303, 32),
    (8, "grpo"): (0.08188783753832984, 256),
    (8, "recast"): (0.07557060973084269, 64),
    (8, "sft"): (0.0803824275662652, 32),
}


def test_the_numbers_are_those_of_this_generation_of_the_simulator(reference):
    """When this fails on purpose: raise ENGINE in spec/keys.py, then pin the new numbers."""
    last = payload(reference).filter(split="test", slice="all", step=4, lr=0.01, seed=0)
    found = {
        (row["train.group"], row["strategy"]): (row["pass_at_1"], row["updated_rows"])
        for row in last.iter_rows(named=True)
    }
    assert found.keys() == NUMBERS.keys()
    assert set(last["engine"]) == {6}
    for cell, (value, rows) in NUMBERS.items():
        assert found[cell] == (pytest.approx(value, rel=1e-6), rows), cell


def test_the_same_sweep_again_does_nothing(reference):
    before = {p: p.stat().st_mtime_ns for p in Store(reference).files()}
    seen: list[tuple[int, int, str]] = []
    outcome = run_sweep(
        TINY, Store(reference), progress=lambda *a: seen.append(a), executor="serial"
    )
    assert outcome.reused == len(outcome.keys) == 36
    assert seen == []
    assert {p: p.stat().st_mtime_ns for p in Store(reference).files()} == before


def test_a_larger_sweep_runs_only_what_is_missing_and_reuses_warm_starts(reference, tmp_path):
    store = copied(reference, tmp_path)
    starts = sorted((tmp_path / "starts").iterdir())
    larger = TINY.model_copy(update={"strategies": (*TINY.strategies, "rloo")})
    outcome = run_sweep(larger, store, executor="serial")
    assert (outcome.reused, len(outcome.keys)) == (36, 48)
    assert sorted((tmp_path / "starts").iterdir()) == starts
    old = payload(tmp_path).filter(strategy="rloo").height
    assert payload(tmp_path).height == payload(reference).height + old


def test_progress_moves_with_every_step_and_ends_full(tmp_path):
    seen: list[tuple[int, int, str]] = []
    small = TINY.model_copy(update={"strategies": ("sft",), "grid": {}, "seeds": 1})
    run_sweep(small, Store(tmp_path).prepare(), lambda *a: seen.append(a), executor="serial")
    done = [d for d, _, _ in seen]
    assert done == sorted(done)
    assert set(done) == set(range(2 * 4 + 1))
    assert {total for _, total, _ in seen} == {8}


def test_a_damaged_run_of_the_sweep_is_set_aside_and_done_again(reference, tmp_path, caplog):
    store = copied(reference, tmp_path)
    victim = store.files()[7]
    victim.write_bytes(victim.read_bytes()[:100])
    outcome = run_sweep(TINY, store, executor="serial")
    assert outcome.repaired == [victim.parent.name]
    assert str(victim) in caplog.text
    assert payload_bytes(tmp_path) == payload_bytes(reference)


def test_a_damaged_warm_start_is_made_again(reference, tmp_path):
    store = copied(reference, tmp_path)
    for path in store.files()[::3]:
        shutil.rmtree(path.parent)
    for victim in (tmp_path / "starts").glob("*/*"):
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 4
        victim.write_bytes(bytes(content))
    run_sweep(TINY, store, executor="serial")
    assert payload_bytes(tmp_path) == payload_bytes(reference)


def test_a_warm_start_comes_back_bit_for_bit_and_damage_counts_as_missing(tmp_path):
    starts = Starts(tmp_path)
    params = {"a": np.array([0.1, -0.0, 1e-300]), "b/c": np.eye(2)}
    found = {"test": [{"all": {"greedy": 0.1 + 0.2, "coverage_at_10": None}}]}
    opening = Snapshot(found, torch.ones(1, dtype=torch.float64), torch.tensor([0.1 / 3]).double())
    starts.save("k", Start(params, 0.55, 12, opening))
    back = starts.load("k")
    assert back is not None
    assert back.opening.found == found
    assert torch.equal(back.opening.entropy, opening.entropy)
    assert (back.all_zero, back.steps) == (0.55, 12)
    assert {n: v.tobytes() for n, v in back.params.items()} == {
        n: v.tobytes() for n, v in params.items()
    }
    (path,) = (tmp_path / "starts" / "k").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert starts.load("k") is None
    assert not starts.has("k")


def test_an_impossible_cell_fails_alone_and_is_named(tmp_path):
    sweep = TINY.model_copy(
        update={"grid": {"start.all_zero": (0.55, 0.999999)}, "strategies": ("sft",)}
    )
    outcome = run_sweep(sweep, Store(tmp_path).prepare(), executor="serial")
    assert len(outcome.failures) == 6
    assert "start.all_zero" in outcome.first_failure()
    assert "6 other runs are stored" in outcome.first_failure()
    assert len(Store(tmp_path).files()) == 6


def test_a_crash_in_one_cell_leaves_the_others_alone(tmp_path, monkeypatch, caplog):
    real = workbench.execution.executors.make_runs

    def sometimes(task, report):
        if task.rows[0] == "recast":
            raise ZeroDivisionError("a bug")
        return real(task, report)

    monkeypatch.setattr(workbench.execution.executors, "make_runs", sometimes)
    outcome = run_sweep(TINY, Store(tmp_path).prepare(), executor="serial")
    assert set(outcome.failures.values()) == {"recast: crashed: ZeroDivisionError: a bug"}
    assert len(Store(tmp_path).files()) == 24
    assert "Traceback" in caplog.text


def test_batches_are_compatible_and_even_and_hold_every_run_once():
    runs = TINY.runs()
    parts = batches(runs, workers=1)
    assert sorted(r.key for p in parts for r in p) == sorted(r.key for r in runs)
    for part in parts:
        assert len({(r.config["cell"], r.strategy) for r in part}) == 1
        assert len(part) == 6
    assert max(len(part) for part in batches(runs[:4], workers=2)) == 1


def test_a_run_and_the_one_at_its_averaged_weights_are_one_training(tmp_path, monkeypatch):
    """Each the same as if it stood alone, also when the other is stored already."""
    both = {"strategies": ("grpo", "grpo averaged", "sft"), "seeds": 2}
    sweep = TINY.model_copy(update=both)
    for part in batches(sweep.runs(), workers=1):
        assert len({r.strategy.removesuffix(" averaged") for r in part}) == 1
    alone, together, after = (Store(tmp_path / name).prepare() for name in ("a", "t", "x"))
    for row in ("grpo", "grpo averaged", "sft"):
        one = sweep.model_copy(update={"strategies": (row,)})
        run_sweep(one, alone, executor="serial")
        if row == "grpo averaged":
            run_sweep(one, after, executor="serial")
    trained: list[int] = []
    real = workbench.execution.tasks.train_for

    def counted(runs, *rest, **more):
        trained.append(len(runs.seeds))
        return real(runs, *rest, **more)

    monkeypatch.setattr(workbench.execution.tasks, "train_for", counted)
    steps: list[tuple[int, int]] = []
    run_sweep(sweep, together, lambda done, of, _: steps.append((done, of)), executor="serial")
    assert sum(trained) == len(sweep.runs()) * 2 / 3
    assert steps[-1][0] == steps[-1][1]
    run_sweep(sweep, after, executor="serial")
    assert payload_bytes(alone.root) == payload_bytes(together.root) == payload_bytes(after.root)


def test_a_killed_worker_is_replaced_and_its_batch_tried_again(reference, tmp_path, monkeypatch):
    killed = 0

    class Murderous(Processes):
        def poll(self, timeout: float) -> list[Event]:
            nonlocal killed
            if self._busy and killed < 2:
                process, _ = next(iter(self._busy.values()))
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                process.join()
                killed += 1
            return super().poll(timeout)

    monkeypatch.setattr(
        workbench.execution.runner, "open_executor", lambda n, on_step, w: Murderous(on_step, 1)
    )
    outcome = run_sweep(TINY, Store(tmp_path).prepare())
    assert killed == 2
    assert not outcome.failures
    assert payload_bytes(tmp_path) == payload_bytes(reference)
    assert not multiprocessing.active_children()


def test_a_batch_that_kills_every_worker_fails_with_advice(tmp_path, monkeypatch):
    class Hopeless(Serial):
        def poll(self, timeout: float) -> list[Event]:
            events = super().poll(0.0)
            if events and isinstance(events[0].result[0], Start):
                return events
            return [Event(event.ticket, "lost") for event in events]

    monkeypatch.setattr(
        workbench.execution.runner, "open_executor", lambda n, on_step, w: Hopeless(on_step)
    )
    small = TINY.model_copy(update={"strategies": ("sft",), "grid": {}, "seeds": 1})
    outcome = run_sweep(small, Store(tmp_path).prepare())
    assert len(outcome.failures) == 2
    assert "died 3 times" in outcome.first_failure()


def test_the_first_interruption_waits_for_what_is_being_written_and_the_second_does_not():
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_sweep_keeps_what_is_finished_and_goes_on_from_there(reference, tmp_path):
    store = Store(tmp_path).prepare()

    def interrupt(done: int, total: int, text: str) -> None:
        if len(store.files()) >= 10:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(TINY, store, interrupt, executor="serial")
    for path in (tmp_path / "claims").iterdir():
        left = WorkLock(path)
        assert left.take(), "a lock outlived its sweep"
        left.drop(done=False)
    kept = store.files()
    assert 10 <= len(kept) < 36
    outcome = run_sweep(TINY, store, executor="serial")
    assert outcome.reused == len(kept)
    assert payload_bytes(tmp_path) == payload_bytes(reference)


def test_tuning_chooses_on_validation_records_every_rate_and_extends_an_edge(tmp_path):
    sweep = TINY.model_copy(
        update={"strategies": ("sft",), "grid": {}, "tune": Tune(lr=(0.001, 0.01), extend=1)}
    )
    store = Store(tmp_path).prepare()
    outcome = run_sweep(sweep, store, executor="serial")
    assert len(outcome.keys) == 9
    (path,) = (tmp_path / "sweeps").glob("tiny-*.json")
    table = json.loads(path.read_text())["tuning"]
    last = store.load().filter(split="validation", slice="all", step=4)
    by_hand = {
        lr: float(np.mean(last.filter(lr=lr)["area"].to_list()))
        for lr in last["lr"].unique().to_list()
    }
    assert {row["lr"]: row["value"] for row in table} == pytest.approx(by_hand, rel=1e-12)
    assert [row["lr"] for row in table if row["chosen"]] == [max(by_hand, key=by_hand.__getitem__)]
    assert len(by_hand) == 3


def test_a_disk_that_fills_up_stops_the_sweep_and_keeps_the_store_valid(
    reference, tmp_path, monkeypatch
):
    store = Store(tmp_path).prepare()
    real, left = os.fsync, [31]

    def fsync(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DiskError):
            run_sweep(TINY, store, executor="serial")
    assert not store.contents().damaged
    assert not list(tmp_path.glob(".tmp-*"))
    run_sweep(TINY, store, executor="serial")
    assert payload_bytes(tmp_path) == payload_bytes(reference)


def test_the_thread_count_is_given_back(tmp_path):
    before = torch.get_num_threads()
    executor = Serial(lambda *_: None)
    executor.submit(0, StartTask(TINY.experiment, (0,)))
    assert executor.poll(0.0)[0].kind == "done"
    executor.close()
    assert torch.get_num_threads() == before


def test_an_unknown_executor_is_named():
    with pytest.raises(UserError, match="expected one of process, serial, ray"):
        open_executor("threads", lambda *_: None)


def test_ray_that_is_not_installed_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[ray\]'"):
        open_executor("ray", lambda *_: None)


def test_a_sweep_is_also_an_experiment():
    assert Sweep.model_validate(TINY.experiment.model_dump()).runs()


def test_float32_keeps_the_promise_and_is_a_configuration_of_its_own(
    reference, tmp_path, monkeypatch
):
    single = TINY.model_copy(
        update={"train": TINY.train.model_copy(update={"precision": "float32"})}
    )
    outcome = run_sweep(single, Store(tmp_path / "a").prepare(), executor="process", workers=2)
    assert not outcome.failures
    assert not set(outcome.keys) & {run.key for run in TINY.runs()}
    monkeypatch.setattr(workbench.execution.runner, "BATCH", 1)
    run_sweep(single, Store(tmp_path / "b").prepare(), executor="serial")
    assert payload_bytes(tmp_path / "a") == payload_bytes(tmp_path / "b")
    cell = {"split": "test", "slice": "all", "strategy": "sft", "lr": 0.01, "seed": 0}
    rounded, exact = (
        payload(store).filter(**cell, **{"train.group": 4}).sort("step")["pass_at_1"].to_list()
        for store in (tmp_path / "a", reference)
    )
    assert rounded[0] == exact[0]
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=1e-3)
