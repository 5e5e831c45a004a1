"""The hooks of docs/adapters.md, through `benchmarks.hooks`, in stand-ins for the functions that it
takes out of the trainers' sources."""

from __future__ import annotations

import sys

import pytest

from benchmarks import hooks

SOURCES = {
    "openrlhf": {
        "openrlhf/models/utils.py": "def compute_reward(reward, *_, **__):\n    return reward\n",
        "openrlhf/trainer/ppo_utils/experience_maker.py": """
class RemoteExperienceMaker:
    def compute_advantages_and_returns(self, experiences):
        return experiences
    def get_cumulative_returns(self):
        pass
""",
    },
    "slime": {
        "slime/utils/types.py": """
class Sample:
    group_index: int | None = None
    def get_reward_value(self, args):
        return self.reward
""",
        "slime/ray/rollout.py": """
class RolloutManager:
    def _post_process_rewards(self, samples):
        return self.custom_reward_post_process_func(self.args, samples)
""",
        "slime/utils/ppo_utils.py": """
def get_grpo_returns(rewards, kl):
    return [torch.ones_like(k) * r for k, r in zip(kl, rewards)]
""",
    },
    "nemo-rl": {
        "nemo_rl/algorithms/grpo.py": """
def grpo_train():
    found = _create_advantage_estimator(config)
    found.compute_advantage(prompt_ids=p, rewards=r, mask=m, repeated_batch=b)
""",
        "nemo_rl/algorithms/advantage_estimator.py": """
class GRPOAdvantageEstimator:
    def compute_advantage(self, prompt_ids, rewards, mask):
        return mask
""",
    },
    "prime-rl": {
        "src/prime_rl/orchestrator/algo/base.py": """
class Algorithm:
    action_loss_type = "rl"
    def __init__(self, config, pool):
        pass
    async def finalize_group(self, group):
        await self.score_group(group)
""",
        "src/prime_rl/orchestrator/algo/__init__.py": """
def build_algorithm(config, pool):
    return ALGORITHM_CLASSES[config.type](config, pool)
""",
        "src/prime_rl/orchestrator/types.py": """
class Rollout:
    def assign_advantages(self, value):
        self.advantages = [0.0, value, value]
""",
    },
}


@pytest.fixture
def source(tmp_path):
    before = set(sys.modules)

    def write(trainer, change=("", "")):
        for name, text in SOURCES[trainer].items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace(*change) if all(change) else text)
        return hooks.checked(trainer, tmp_path)

    yield write
    for name in set(sys.modules) - before:  # what a hook imports is there for nobody else
        if name.partition(".")[0] in ("openrlhf", "nemo_rl", "prime_rl"):
            del sys.modules[name]


@pytest.mark.parametrize("trainer", SOURCES)
def test_a_hook_hands_the_advantages_of_this_library_to_its_trainer(trainer, source):
    assert source(trainer) == "2.00, -1.00, -1.00, 0.50, 0.50, -1.00, 0.00, 0.00, 0.00"


@pytest.mark.parametrize(
    ("trainer", "change", "message"),
    [
        ("slime", ("return self.c", "return samples, self.c"), "ValueError|TypeError|Assertion"),
        ("nemo-rl", ("prompt_ids=p", "prompts=p"), "AssertionError"),
        ("prime-rl", ("value, value", "0.0, value"), "not ours"),
        ("openrlhf", ("return experiences", "return []"), "ValueError"),
        ("openrlhf", ("RemoteExp", "Exp"), "LookupError: experience_maker.py has no Remote"),
    ],
)
def test_a_trainer_that_changed_is_seen(trainer, change, message, source):
    said = source(trainer, change)
    assert any(said.startswith(word) for word in message.split("|")), said
