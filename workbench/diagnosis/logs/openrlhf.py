"""JSON lines as OpenRLHF and trainers near it write them: prompt, output, reward, label.

A row is one rollout, or one prompt whose outputs and rewards are lists. `step` or `global_step`
where there is one.
"""

from workbench.diagnosis.logs.layout import LogFormat

FORMAT = LogFormat(
    name="openrlhf",
    names={
        "step": ("step", "global_step", "iteration"),
        "prompt": ("prompt", "input", "query", "prompts"),
        "group": ("group", "prompt_id"),
        "prediction": ("output", "response", "completion", "outputs", "responses"),
        "target": ("label", "answer", "ground_truth", "labels"),
        "reward": ("reward", "rewards", "score", "scores"),
        "task": ("datasource", "data_source", "task"),
        "logp": ("logp", "log_prob", "logprob"),
        "kl": ("kl",),
        "tokens": ("response_length", "num_tokens"),
        "advantage": ("advantage", "advantages"),
    },
    typical=frozenset({"output", "reward"}),
)
