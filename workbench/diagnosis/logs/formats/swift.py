"""ms-swift's completions.jsonl: TRL's columns, one line per logging step with a list for each.

step (text), prompt, completion, one list per reward function (its class), advantages, entropy with
`log_entropy`, and columns of the data such as solution. Source: `grpo_trainer.py`
(4.6; 3.5 wrote no advantages, and reads as TRL). Its Megatron trainers write gen_step, and below
ray a list of rows per line, with one reward.
"""

from workbench.diagnosis.logs.formats.trl import FORMAT as TRL
from workbench.diagnosis.logs.layout import LogFormat

FORMAT = LogFormat(
    name="ms-swift",
    names={
        **TRL.names,
        "reward": ("reward",),
        "advantage": ("advantages", "advantage"),
        "group": ("prompt_id",),
        "truncated": ("truncated", "is_truncated", "finish_reason"),
    },
    typical=(
        frozenset({"step", "prompt", "completion", "advantages"}),
        frozenset({"gen_step", "prompt", "completion", "advantages"}),
    ),
    functions=True,
    ordered=True,
    versions="ms-swift 3.5, 4.6",
)
