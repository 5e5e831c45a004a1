"""The rung of language models on a made-up data folder: from scratch, and from a given start."""

from __future__ import annotations

import numpy as np
import pytest

from recast.lm.dataset import load_data
from workbench.spec.metrics import LM_METRICS
from workbench.studies.prediction.language_models import PRETRAINED, Given
from workbench.studies.prediction.protocol import Case, PredictionPlan
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
