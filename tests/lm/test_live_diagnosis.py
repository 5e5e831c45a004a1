"""The diagnosis callback inside TRL's own trainer."""

from __future__ import annotations

import pytest
import tiny
import trl_case
from transformers import TrainerCallback
from trl import GRPOTrainer

from recast.lm.tokenizer import code_tokenizer
from workbench.diagnosis.live import DiagnosisCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


class Tracker(TrainerCallback):
    """Keeps what a tracker would be given."""

    def __init__(self):
        self.logged = []

    def on_log(self, args, state, control, logs=None, **_):
        self.logged.append(dict(logs))


def test_trl_logs_the_findings_beside_its_own_scalars(tmp_path):
    """A reward of 0 for all: every group has equal rewards from the first step on."""
    tracker = Tracker()
    trainer = GRPOTrainer(
        model=tiny.model("qwen3", trl_case.VOCAB),
        reward_funcs=lambda completion_ids, **_: [0.0] * len(completion_ids),
        args=trl_case.config(tmp_path, max_steps=4),
        train_dataset=trl_case.easy_dataset(),
        processing_class=code_tokenizer(trl_case.VOCAB),
        callbacks=[tracker],
    )
    callback = DiagnosisCallback().attach(trainer)
    # What may be spent is not what this test is about.
    callback.live.spent = -1e9
    trainer.train()
    steps = [row for row in tracker.logged if "frac_reward_zero_std" in row]
    assert steps[-1]["frac_reward_zero_std"] == 1.0
    assert steps[-1]["diagnosis/constant_reward"] == 2.0
    assert "constant_reward" in {one.name for one in callback.findings}
    assert not callback.live.dead
