"""TRL's completions log, `log_completions=True`; Unsloth and MiniOneRec run TRL's trainer.

0.28 to 1.16 write completions/completions_<step>.parquet: step, prompt, completion, one column per
reward function, further ones that reward functions logged (`log_extra`), advantage. All versions
put the same table into wandb (`files/media/table/completions_*.table.json`) or trackio; 0.17 to
0.23 without the advantage, 0.16 and earlier with one `reward`. Prompts and completions are text or
lists of messages. A reward function that returns None abstains. `recast.adapters.trl` logs what was
sampled before repair (`sampled_completion`, `sampled_outcome`, `repaired`), which goes first.
"""

from workbench.diagnosis.logs.formats.generic import FORMAT as GENERIC
from workbench.diagnosis.logs.layout import LogFormat

FORMAT = LogFormat(
    name="trl",
    names={
        # Rows that were written by hand have the same three columns, and ids beside them.
        **{name: GENERIC.names[name] for name in ("group", "tokens", "truncated")},
        "step": ("step", "gen_step"),
        "prompt": ("prompt",),
        "prediction": ("sampled_completion", "completion"),
        "target": ("target", "solution", "answer", "ground_truth"),
        "reward": ("sampled_outcome", "reward", "total_reward", "final_reward", "total_score"),
        "repaired": ("repaired",),
        "advantage": ("advantage", "advantages"),
        "task": ("task", "data_source"),
        "beam_rank": ("beam_rank",),
        "kl": ("kl",),
        "entropy": ("entropy",),
        "logp": ("logp",),
    },
    typical=(
        frozenset({"step", "prompt", "completion"}),
        frozenset({"gen_step", "prompt", "completion"}),
    ),
    functions=True,
    ordered=True,
    step_of_file=r"completions_(\d+)(?:_[0-9a-f]+\.table\.json|\.parquet)$",
    versions="TRL 0.16, 0.17, 0.24, 0.28, 1.16",
)
