"""verifiers' results.jsonl (v0), and prime-rl's platform table.

example_id, prompt, completion, reward, answer, task, is_truncated, stop_condition, metrics, and one
column per reward function. The platform's parquet has step, problem_id, sample_id, completion,
reward, advantage. Source: `verifiers/utils/eval_utils.py` (0.1.9); prime-rl main.
"""

from workbench.diagnosis.logs.layout import LogFormat

FORMAT = LogFormat(
    name="verifiers",
    names={
        "step": ("step", "global_step"),
        "prompt": ("prompt", "problem_id", "example_id"),
        "group": ("example_id", "problem_id"),
        "prediction": ("completion",),
        "target": ("answer",),
        "reward": ("reward",),
        "advantage": ("advantage",),
        "task": ("task", "env_id"),
        "truncated": ("is_truncated", "stop_condition"),
    },
    typical=(
        frozenset({"example_id", "completion", "reward"}),
        frozenset({"problem_id", "sample_id", "reward"}),
    ),
    step_of_file=r"step_(\d+)",
    versions="verifiers 0.1.9, prime-rl main",
)
