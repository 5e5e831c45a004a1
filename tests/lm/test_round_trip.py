"""A log written by the trainers is diagnosed with exactly the regimes that they counted."""

from __future__ import annotations

import pytest
import tiny
import trl_case

from recast.lm.trainer import RLTraining, train
from recast.regimes import REGIMES
from recast.strategies import parse_strategy
from workbench.diagnosis.diagnosis import diagnose, regime_table
from workbench.diagnosis.logs.read import files_of, read_log
from workbench.diagnosis.logs.write import RolloutLog

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.mark.parametrize("strategy", ["recast", "grpo_trl", "repair_only"])
@pytest.mark.parametrize("free", [False, True], ids=["trie", "free"])
def test_the_completions_log_of_the_trl_adapter_has_the_regimes_it_counted(
    strategy, free, tmp_path
):
    it = trl_case.trainer(tmp_path, strategy, free, max_steps=3, log_completions=True)
    it.train()
    counted = [
        [row[f"recast/{name}"] for name in REGIMES]
        for row in it.state.log_history
        if "recast/all_zero" in row
    ]
    log = read_log(files_of([tmp_path]))
    found = diagnose(log)
    assert log.form == "trl"
    assert found.repeats == []
    assert found.group == 4
    for step, shares in enumerate(counted, start=1):
        mine = found.groups.filter(step=step)
        here = [(mine["regime"] == name).mean() for name in REGIMES]
        assert here == pytest.approx(shares)
    table = regime_table(found).row(0, named=True)
    assert sum(table[name] for name in REGIMES) == pytest.approx(1)
    assert len(counted) == 3
    if strategy == "recast":
        # Two rows of each repaired group have an advantage: the anchor's is not the rollout's.
        dead = found.groups.filter(regime="all_zero")
        assert not dead.is_empty()
        assert set(dead["idle"]) == {3}


@pytest.mark.parametrize("search", ["sample", "beam"])
@pytest.mark.parametrize("strategy", ["recast", "grpo", "visurf"])
def test_the_log_of_our_own_trainer_has_the_hits_it_counted(strategy, search, tmp_path):
    job, counted = tiny.job(), []
    log = RolloutLog(tmp_path)

    def record(step, collected):
        log.sampled(job.trie, step, collected)
        counted.append(collected.signal)

    how = RLTraining(steps=2, batch=8, group=4, evaluations=1, search=search)
    train(job, parse_strategy(strategy), how, record=record)
    found = diagnose(read_log(files_of([tmp_path])))
    assert found.steps == [1, 2]
    assert found.beam == (search == "beam")
    for step, signal in enumerate(counted, start=1):
        mine = found.groups.filter(step=step)
        assert mine["hits"].to_list() == signal.hits.tolist()
        assert mine["size"].to_list() == signal.valid.tolist()
    assert found.groups["hits"].sum() > 0
