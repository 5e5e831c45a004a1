"""The rung of language models on a made-up data folder: from scratch, and from a given start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from command_line import recast

from recast.lm.dataset import load_data
from workbench.spec.metrics import LM_METRICS
from workbench.studies.prediction import distilled
from workbench.studies.prediction.language_models import PRETRAINED, Given
from workbench.studies.prediction.protocol import Case, PredictionPlan
from workbench.studies.prediction.small_policies import DISTILLED
from workbench.studies.prediction.study import PredictionStudy

PLAN = PredictionPlan(steps=2, stops=(1, 2), batch=8, group=8, seeds=1, strategies=("sft", "grpo"))


@pytest.fixture
def case(data_folder) -> Case:
    return Case(load_data(data_folder), 0.62)


def test_a_model_from_scratch_starts_at_the_share_and_is_trained_and_measured(case, tmp_path):
    whole = PredictionStudy(tmp_path, (case,), PLAN)
    done = list(whole.do("lm_0.15M", case, (0,), lambda *_: None))
    assert done == ["start 0", "sft 0", "grpo 0"]
    rung = whole.rung("lm_0.15M", case)
    assert rung.start(0)["all_zero"] == pytest.approx(0.62, abs=0.01)
    before = rung.measured()
    assert set(before) == set(LM_METRICS)
    assert list(rung.run("sft", 1e-2, 0, (2,))) == [2]
    assert any(not np.array_equal(before[m], rung.measured()[m]) for m in LM_METRICS)
    rung.start(0)
    again = rung.measured()
    assert all(np.array_equal(before[m], again[m]) for m in LM_METRICS)
    hits = whole.hits(case)
    assert hits[0] == "lm_0.15M"
    assert hits[1].shape == (len(case.data.learning),)

    start = tmp_path / "starts" / "lm_0.15M" / f"{case.data.name}-0.62" / "start-0"
    given = PredictionStudy(tmp_path, (case,), PLAN, Given(str(start)))
    assert given.place(PRETRAINED, case) != whole.place(PRETRAINED, case)
    made = given.rung(PRETRAINED, case)
    assert made.start(0)["all_zero"] == pytest.approx(rung.start(0)["all_zero"], abs=1e-6)
    assert all(np.array_equal(made.measured()[m], before[m]) for m in LM_METRICS)


def test_a_copied_start_learns_what_its_model_says_and_a_model_is_asked_from_the_command_line(
    case, data_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        distilled, "SHORT", 0.0
    )  # this model hardly hits more than an untrained one
    whole = PredictionStudy(tmp_path, (case,), PLAN)
    model = whole.rung("lm_0.15M", case)
    model.start(0)
    hits = whole.keep_hits("lm_0.15M", case)
    copy = whole.rung(DISTILLED, case)
    assert copy.start(0)["all_zero"] == pytest.approx(0.62, abs=0.01)
    histories = [row.history for row in case.data.sft]
    said = model.drawn(histories, distilled.DRAWS, torch.Generator().manual_seed(0))
    learnt = copy.drawn(0).sft  # it learns what the model says, not the rows' own targets
    sids = list(case.data.sids)
    assert [sids[i] for i in learnt.target.tolist()] == [
        tuple(codes) for row in said.tolist() for codes in row
    ]
    assert list(copy.run("sft", 1e-2, 0, (2,))) == [2]

    start = tmp_path / "starts" / "lm_0.15M" / f"{case.data.name}-0.62" / "start-0"
    given = PredictionStudy(tmp_path, (case,), PLAN, Given(str(start)))
    assert given.place(DISTILLED, case) != whole.place(DISTILLED, case)
    own = given.rung(DISTILLED, Case(case.data, 0.1))  # a given model starts where it is
    assert own.start(0)["all_zero"] == pytest.approx(copy.start(0)["all_zero"], abs=0.02)

    asked = ("lm", "predict", str(data_folder), "--start", str(start), "--group", "8",
             "--seeds", "1", "--strategy", "sft", "--strategy", "grpo",
             "--out", str(tmp_path))  # fmt: skip
    done = recast(*asked)
    assert done.returncode == 0, done.stderr
    assert f"({hits.mean():.3%} on the mean)" in " ".join(done.stdout.split())
    assert "Record of theory on area" in done.stdout
    wrong = recast(*asked[:4], str(tmp_path / "nowhere"))
    assert wrong.returncode == 2
    assert "no checkpoint here" in wrong.stderr.splitlines()[-1]
