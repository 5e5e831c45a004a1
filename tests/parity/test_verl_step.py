"""One PPO step of verl's synchronous trainer on a CPU with a real, tiny Qwen3: it samples, is
scored, repaired, credited by our trainer, and updated through verl's own policy loss."""

from __future__ import annotations

import pytest

pytest.importorskip("transfer_queue", reason="verl's trainer needs TransferQueue; make parity")
from verl_case import prepared, step

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.drill
@pytest.mark.parametrize("strategy", ["recast", "repair_only", "grpo_sft", "target_power"])
def test_a_step_on_a_real_model_makes_the_targets_likelier(strategy, monkeypatch):
    trainer = prepared(strategy, monkeypatch.setattr)
    workers = trainer.actor_rollout_wg
    before = workers.likelihood()
    metrics = step(trainer)
    assert metrics["recast/all_zero"] > 0
    assert workers.norm > 0
    assert "actor/pg_loss" in metrics
    assert metrics["critic/score/max"] == 1  # verl's own, of the rows that are left
    assert workers.likelihood() > before
