"""The live diagnosis inside verl's own Tracking, and what its file logger then holds."""

from __future__ import annotations

import json

import numpy as np
import pytest

tracking = pytest.importorskip("verl.utils.tracking")

from workbench.diagnosis.findings.scalars import take_apart  # noqa: E402
from workbench.diagnosis.live import LiveDiagnosis, diagnose_verl  # noqa: E402
from workbench.diagnosis.logs.scalars import read_scalars  # noqa: E402


class Clock:
    """Ten seconds more whenever a step is over."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


def test_findings_stand_in_the_file_that_verl_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "run.jsonl"))
    if "file" not in tracking.Tracking.supported_backend:
        pytest.skip("this verl has no file logger")
    mine = tracking.Tracking("project", "run", default_backend=["console", "file"])
    clock = Clock()
    diagnose_verl(mine, LiveDiagnosis(clock))
    for step in range(1, 61):
        clock.now += 10
        mine.log(
            {"actor/entropy": float(2 * np.exp(-step / 8)), "critic/score/mean": 0.5 + step / 200,
             "response_length/clip_ratio": 0.0, "training/global_step": step},
            step=step,
        )  # fmt: skip
    del mine
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert lines[-1]["data"]["diagnosis/entropy_collapse"] == 2.0
    said = read_scalars([tmp_path / "run.jsonl"])
    assert said.form == "verl's file logger"
    assert [one.name for one in take_apart(said).examined.problems] == ["entropy_collapse"]
