"""What a dry run measures before it promises a time."""

from __future__ import annotations

import pytest

from workbench.execution import forecast as estimate
from workbench.spec.experiment import load_experiment
from workbench.spec.sweep import Sweep


def test_a_dry_run_leaves_out_what_compiling_takes(monkeypatch):
    clock = [0.0]
    trained = []

    def make_runs(task, report):
        """100 s for the first task; then 5 s for the evaluation and 2 s for each step."""
        clock[0] += 100.0 if not trained else 5.0 + 2.0 * task.experiment.train.steps
        trained.append(task)

    monkeypatch.setattr(estimate, "make_runs", make_runs)
    monkeypatch.setattr(estimate.time, "process_time", lambda: clock[0])
    changes = {"train.kernel": "compiled", "train.steps": 7, "train.evaluations": 1}
    spec = load_experiment("quick", changes | {"world.items": 30, "world.validation_prompts": 8})
    part = Sweep.model_validate(spec.model_dump()).runs()[:2]
    assert estimate._training(part) == pytest.approx((7 * 2.0 + 5.0) / 2)
