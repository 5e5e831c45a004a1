"""Findings in a trainer's own tracker: what is added to its scalars, and at what price."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
from foreign_logs import check

from workbench.diagnosis.findings import CHECKS
from workbench.diagnosis.findings.scalar_checks import SCALAR_CHECKS
from workbench.diagnosis.live import LEVELS, SHARE, DiagnosisCallback, LiveDiagnosis, diagnose_verl


class Clock:
    """A clock that a test moves on; every reading takes a microsecond."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


def scalars(step: int) -> dict[str, float]:
    """A run whose entropy collapses, as TRL logs it."""
    return {
        "reward": 0.3,
        "frac_reward_zero_std": 0.4,
        "entropy": float(2 * np.exp(-step / 8)),
        "completions/mean_length": 200.0,
        "loss": 0.0,
    }


def test_a_collapse_appears_in_the_scalars_that_the_tracker_gets():
    clock = Clock()
    live = LiveDiagnosis(clock)
    seen = {}
    for step in range(1, 61):
        clock.now += 10
        seen[step] = live.add(step, scalars(step))
    assert "diagnosis/entropy_collapse" not in seen[5]
    assert seen[60]["diagnosis/entropy_collapse"] == 2.0
    assert seen[60]["diagnosis/problems"] == 1.0


def test_a_finding_that_is_over_is_logged_as_zero():
    clock, live = Clock(), LiveDiagnosis()
    live.clock = clock
    for step in range(1, 121):
        clock.now += 10
        clipped = 0.9 if step < 40 else 0.0
        said = live.add(step, {"completions/clipped_ratio": clipped, "reward": step / 120})
        if step == 39:
            assert said["diagnosis/truncated"] == 2.0
    assert said["diagnosis/truncated"] == 0.0


def test_the_diagnosis_waits_until_enough_of_the_run_has_passed():
    """Checks that take a second each, steps of half a second: their time stays below the share."""
    clock = Clock()
    live = LiveDiagnosis(clock)
    looked = []
    examine = live._examine

    def slow() -> None:
        looked.append(clock.now)
        clock.now += 1.0
        examine()

    live._examine = slow
    for step in range(1, 1001):
        clock.now += 0.5
        live.add(step, {"reward": 0.5})
    assert 2 <= len(looked) <= 7
    assert live.spent <= SHARE * clock.now + 1.1


def test_nothing_raised_reaches_the_trainer(caplog):
    live = LiveDiagnosis()

    def broken() -> None:
        raise RuntimeError("on purpose")

    live._examine = broken
    with caplog.at_level(logging.WARNING, logger="recast"):
        assert live.add(1, {"reward": 0.5}) == {}
        assert live.add(2, {"reward": 0.5}) == {}
    assert [record.getMessage() for record in caplog.records] == [
        "diagnosis ended: RuntimeError: on purpose"
    ]


@pytest.mark.parametrize(
    "junk",
    [{}, {"reward": None}, {"reward": "x"}, {"reward": float("nan")}, {"entropy": [1]}, {3: 4}],
)
def test_scalars_that_are_none_are_passed_over(junk):
    live = LiveDiagnosis()
    for step in range(30):
        assert live.add(step, junk).get("diagnosis/problems", 0.0) == 0.0
    assert not live.dead


class Odd:
    """No number, and not the error that numbers raise."""

    def __float__(self) -> float:
        raise RuntimeError("no scalar")

    def __repr__(self) -> str:
        return "Odd()"


ODD = ({"reward": Odd()}, {"reward": 0.5, None: Odd()}, MappingProxyType({"a": 0.5}), [1], "x", 7)


@pytest.mark.parametrize("logs", ODD, ids=repr)
def test_whatever_a_trainer_logs_it_gets_no_exception(logs):
    for step in (0, None, "x", float("nan"), Odd()):
        callback = DiagnosisCallback()
        callback.on_log(None, SimpleNamespace(global_step=step), None, logs)
        callback.on_log(None, None, None, logs)
        calls = []
        tracking = SimpleNamespace(log=lambda data, step, calls=calls: calls.append((data, step)))
        diagnose_verl(tracking)
        tracking.log(logs, step)
        assert calls[0][1] is step
        assert isinstance(logs, Mapping) or calls[0][0] is logs


def test_one_odd_value_does_not_end_the_diagnosis():
    live = LiveDiagnosis()
    live.add(1, {"reward": Odd()})
    assert not live.dead


def test_the_callback_stands_before_the_trackers_and_adds_to_what_they_log():
    logged = []

    class Tracker:
        def on_log(self, args, state, control, logs=None, **_):
            logged.append(dict(logs))

    trainer = SimpleNamespace(callback_handler=SimpleNamespace(callbacks=[Tracker()]))
    callback = DiagnosisCallback().attach(trainer)
    callback.live.clock = Clock()
    for step in range(1, 61):
        callback.live.clock.now += 10
        state = SimpleNamespace(global_step=step, is_world_process_zero=True)
        logs = scalars(step)
        for one in trainer.callback_handler.callbacks:
            assert one.on_log(None, state, None, logs=logs) is None
    assert logged[-1]["diagnosis/entropy_collapse"] == 2.0
    assert callback.on_step_begin(None, None, None) is None
    with pytest.raises(AttributeError):
        _ = callback.nothing_such


def test_other_ranks_say_nothing():
    callback, logs = DiagnosisCallback(), {"reward": 0.5}
    callback.on_log(None, SimpleNamespace(global_step=1, is_world_process_zero=False), None, logs)
    assert logs == {"reward": 0.5}


def test_verls_tracking_gets_the_findings_in_the_same_call():
    class Tracking:
        def __init__(self) -> None:
            self.calls = []

        def log(self, data, step, backend=None):
            self.calls.append((data, step, backend))

    tracking, clock = Tracking(), Clock()
    diagnose_verl(tracking, LiveDiagnosis(clock))
    for step in range(1, 61):
        clock.now += 10
        given = {
            "actor/entropy": float(2 * np.exp(-step / 8)),
            "critic/score/mean": 0.5,
            "response_length/clip_ratio": 0.0,
        }
        tracking.log(given, step, backend="console")
        assert "diagnosis/problems" not in given
    data, step, backend = tracking.calls[-1]
    assert (step, backend) == (60, "console")
    assert data["actor/entropy"] == given["actor/entropy"]
    assert data["diagnosis/entropy_collapse"] == 2.0


def test_a_long_run_is_thinned_out():
    live = LiveDiagnosis(Clock())
    live.spent = 1e9
    for step in range(10_000):
        live.add(step, {"reward": 0.5})
    assert len(live.points["reward_mean"]) <= 2001
    assert 9_999 in live.points["reward_mean"] or 9_998 in live.points["reward_mean"]


def test_every_finding_of_scalars_has_one_name():
    names = [check.name for check in SCALAR_CHECKS]
    assert len(set(names)) == len(names)
    shared = {name for name in names if name in CHECKS}
    assert shared == {
        "constant_reward",
        "reward_ignores_rollout",
        "starved",
        "saturated",
        "diluted_denominator",
        "silent_function",
    }


STATES = [name for name in check.CASES if name.startswith("state_")]


@pytest.mark.parametrize("name", STATES)
def test_what_the_callback_finds_is_what_the_finished_log_says(name, tmp_path):
    truth = check.CASES[name](tmp_path)
    path = tmp_path / truth.path
    path = path if path.is_file() else next(path.rglob("trainer_state.json"))
    live = LiveDiagnosis(Clock())
    live.spent = 1e9
    rows = json.loads(path.read_text())["log_history"]
    for place, row in enumerate(rows, start=1):
        if place == len(rows):
            live.spent = 0.0
        said = live.add(row["step"], row)
    finished = check.read(tmp_path, truth)[1].findings
    flags = {f"diagnosis/{one.name}": LEVELS[one.level] for one in finished}
    problems = float(sum(one.level == "problem" for one in finished))
    assert said == {**flags, "diagnosis/problems": problems}
