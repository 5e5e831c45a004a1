"""TRL's completions log: `log_completions=True` writes completions/completions_<step>.parquet.

Columns: step, prompt, completion, one per reward function, further ones that reward functions
logged, advantage. Version 0.16 and earlier had one `reward` and no advantage; prompts and
completions are text or lists of messages. `recast.adapters.trl` logs what was sampled before repair
(`sampled_completion`, `sampled_outcome`, `repaired`), which goes first. Reward functions are added
up with weight 1: their weights are not in the log.
"""

from workbench.diagnosis.logs.layout import LogFormat

FORMAT = LogFormat(
    name="trl",
    names={
        "step": ("step",),
        "prompt": ("prompt",),
        "group": ("group",),
        "prediction": ("sampled_completion", "completion"),
        "target": ("target", "solution", "answer", "ground_truth"),
        "reward": ("sampled_outcome",),
        "repaired": ("repaired",),
        "advantage": ("advantage",),
        "task": ("task", "data_source"),
        "beam_rank": ("beam_rank",),
        "kl": ("kl",),
    },
    typical=frozenset({"step", "prompt", "completion"}),
    all_numbers=True,
    ordered=True,
    step_of_file=r"completions_(\d+)\.parquet$",
)
