"""The generic table: one row per rollout, as parquet, JSON lines or CSV; see docs/diagnose.md."""

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
        "step": ("step", "global_step", "iteration"),
        "prompt": ("prompt", "prompt_id", "input", "query", "question"),
        "group": ("group", "group_id", "uid"),
        "prediction": ("prediction", "completion", "output", "response", "item"),
        "target": ("target", "label", "answer", "ground_truth", "gts"),
        "reward": ("reward", "score", "rewards"),
        "task": ("task", "data_source", "datasource"),
        "logp": ("logp", "log_prob", "logprob"),
        "entropy": ("entropy",),
        "kl": ("kl",),
        "beam_rank": ("beam_rank", "rank"),
        "tokens": ("tokens", "length", "response_length", "num_tokens"),
        "advantage": ("advantage", "advantages"),
    },
    typical=frozenset(),
    step_of_file=r"(\d+)\.(?:jsonl|csv|parquet)$",
)
