"""A log written by the trainers is diagnosed with exactly the regimes that they counted."""

from __future__ import annotations

import polars as pl
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
    setup, counted = tiny.setup(), []
    log = RolloutLog(tmp_path)

    def record(step, collected):
        log.sampled(setup.trie, step, collected)
        counted.append(collected.signal)

    how = RLTraining(steps=2, batch=8, group=4, evaluations=1, search=search)
    train(setup, parse_strategy(strategy), how, record=record)
    found = diagnose(read_log(files_of([tmp_path])))
    assert found.steps == [1, 2]
    assert found.beam == (search == "beam")
    for step, signal in enumerate(counted, start=1):
        mine = found.groups.filter(step=step)
        assert mine["hits"].to_list() == signal.hits.tolist()
        assert mine["size"].to_list() == signal.valid.tolist()
    assert found.groups["hits"].sum() > 0


def test_trls_own_trainer_tells_its_weights_and_scalars_by_its_logs(tmp_path):
    """Two weighted reward functions, one abstains at times and writes a column of numbers."""
    from trl import GRPOTrainer

    from recast.lm.tokenizer import code_tokenizer
    from workbench.diagnosis.logs.scalars import read_scalars

    counted: list[int] = []

    def answer_reward(completions, log_extra=None, **_):
        rewards = [float(sum(map(ord, one)) % 3 == 0) for one in completions]
        counted.extend(int(sum(rewards[g : g + 4])) for g in range(0, len(rewards), 4))
        if log_extra:
            log_extra("answer_tokens", [100.0 + sum(map(ord, one)) % 50 for one in completions])
        return rewards

    def style_reward(completions, **_):
        return [float(len(one) % 2) if sum(map(ord, one)) % 5 else None for one in completions]

    it = GRPOTrainer(
        model=tiny.model("qwen3", trl_case.VOCAB),
        reward_funcs=[answer_reward, style_reward],
        args=trl_case.config(
            tmp_path, max_steps=4, log_completions=True, reward_weights=[1.0, 0.25]
        ),
        train_dataset=trl_case.dataset(),
        processing_class=code_tokenizer(trl_case.VOCAB),
    )
    it.train()
    it.save_state()
    log = read_log(files_of([tmp_path]))
    assert log.reading.functions == {"answer_reward": 1.0, "style_reward": 0.25}
    assert log.reading.how == "solved"
    found = diagnose(log)
    assert sorted(found.groups["hits"]) == sorted(counted)
    said = read_scalars([tmp_path / "trainer_state.json"])
    assert {"reward_mean", "zero_spread", "truncated_share", "entropy"} <= set(said.meanings)
    zero = found.groups.group_by("step").agg(share=pl.col("constant").mean()).sort("step")
    assert said.of("zero_spread")["value"].to_list() == pytest.approx(zero["share"].to_list())
