"""What the TRL adapter cannot do is one line, before anything is trained."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import trl
import trl_case
from peft import LoraConfig

from recast import STRATEGIES
from recast.adapters.limits import why_not_trl
from recast.adapters.trl_refusals import refuse
from recast.lm.optional_extra import LMError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

LORA = {"peft_config": LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")}


@pytest.mark.parametrize(
    ("strategy", "changes", "message"),
    [
        ("s_dpo", {}, "supervised=s_dpo.* needs `reference`"),
        ("visurf", {}, "repair=append"),
        ("greso", {}, "gate=greso"),
        ("luffy", {}, "anchor_ratio=shaped.*use `recast lm rl`"),
        ("rl_zvp", {}, "needs `entropy`"),
        ("recast", {"use_liger_kernel": True}, "use_liger_kernel: a fused loss"),
        ("recast", {"loss_type": "bnpo"}, "loss_type: 'bnpo'; expected one of"),
        ("recast", {"mask_truncated_completions": True}, "counts as truncated"),
        ("grpo", {"top_entropy_quantile": 0.5}, "top_entropy_quantile: it would be of the rows"),
        ("grpo", {"entropy_coef": 0.01}, "entropy_coef: it would be of the rows that are left"),
        ("grpo", {"reward_weights": [0.5]}, "reward_weights: the outcome is the only reward"),
        ("grpo", {"rollout_func": print}, "rollout_func: an answer of this adapter is one item"),
        ("recast", {"beta": 0.1}, "beta: TRL loads the reference from the folder"),
        ("grpo", {"divisor": "strategy", "loss_type": "grpo"}, "dapo, cispo or vespo, got grpo"),
        (
            "recast",
            {"beta": 0.1, "sync_ref_model": True, **LORA},
            "sync_ref_model: with LoRA the reference is the model without its adapter",
        ),
    ],
)
def test_what_the_adapter_cannot_do_is_one_line(strategy, changes, message, tmp_path):
    with pytest.raises(LMError, match=message) as caught:
        trl_case.trainer(tmp_path, strategy, **changes)
    assert "\n" not in str(caught.value)


def test_a_trl_without_a_method_is_refused_in_one_line():
    code = (
        "from trl import GRPOTrainer\ndel GRPOTrainer._generate_single_turn\n"
        "try:\n    import recast.adapters.trl\nexcept ImportError as problem:\n    print(problem)\n"
    )
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "has no _generate_single_turn in its GRPOTrainer" in done.stdout
    assert "pip install 'trl>=0.24,<2'" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_adapter_refuses_what_its_why_not_says_and_nothing_else(name, tmp_path):
    config = trl.GRPOConfig(
        str(tmp_path), num_generations=16, per_device_train_batch_size=16, use_cpu=True, bf16=False
    )
    reason = why_not_trl(STRATEGIES[name], 16)
    if reason is None:
        refuse(STRATEGIES[name], config, "trl", None, None)
    else:
        with pytest.raises(LMError, match=re.escape(f"the TRL adapter: {reason}")):
            refuse(STRATEGIES[name], config, "trl", None, None)
