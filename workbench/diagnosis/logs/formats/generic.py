"""The generic table: one row per rollout, as parquet, JSON lines or CSV; see docs/diagnose.md.

OpenRLHF writes no rollouts: log prompt, output, reward and step from its reward function.
"""

from workbench.diagnosis.logs.layout import LogFormat

COLUMNS = (
    "step",
    "prompt",
    "group",
    "rollout",
    "task",
    "reward",
    "outcome",
    "prediction",
    "target",
    "logp",
    "entropy",
    "beam_rank",
    "tokens",
    "advantage",
)
"""What this project's own trainers write."""

FORMAT = LogFormat(
    name="generic",
    names={
        "step": ("step", "global_step", "iteration", "training_step", "global_steps"),
        "prompt": (
            "prompt",
            "prompt_id",
            "input",
            "query",
            "question",
            "prompts",
            "instruction",
            "prompt_text",
            "question_text",
            "responses_create_params",
        ),
        "group": (
            "group",
            "group_id",
            "uid",
            "prompt_id",
            "group_idx",
            "prompt_idx",
            "group_index",
            "_ng_task_index",
        ),
        "prediction": (
            "prediction",
            "completion",
            "output",
            "response",
            "item",
            "outputs",
            "responses",
            "completions",
            "completion_text",
            "response_text",
            "text",
        ),
        "target": ("target", "label", "answer", "ground_truth", "gts", "labels"),
        "reward": (
            "reward",
            "score",
            "rewards",
            "scores",
            "total_reward",
            "final_reward",
            "reward_score",
        ),
        "task": ("task", "data_source", "datasource"),
        "logp": ("logp", "log_prob", "logprob"),
        "entropy": ("entropy",),
        "kl": ("kl",),
        "beam_rank": ("beam_rank", "rank"),
        "tokens": (
            "tokens",
            "length",
            "response_length",
            "num_tokens",
            "completion_tokens",
            "completion_length",
            "output_tokens",
            "response_tokens",
            "num_output_tokens",
            "generated_tokens",
        ),
        "advantage": ("advantage", "advantages"),
        "truncated": (
            "truncated",
            "is_truncated",
            "finish_reason",
            "stop_reason",
            "stop_condition",
        ),
    },
    typical=(frozenset(),),
    step_of_file=r"(\d+)\.(?:jsonl|csv|parquet|json|ndjson)$",
    versions="any trainer",
)
