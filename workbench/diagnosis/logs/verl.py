"""verl's rollout dumps: `trainer.rollout_data_dir` gets one <step>.jsonl per step.

Keys: input, output, gts, score, step, and whatever the reward function returned besides (`acc`,
say). Newer versions add uid (`<prompt>_<rollout>_<turn>`), which tells groups apart. Rows are
in the order of the balanced batch, not by group.
"""

from workbench.diagnosis.logs.layout import LogFormat

FORMAT = LogFormat(
    name="verl",
    names={
        "step": ("step",),
        "prompt": ("input",),
        "group": ("uid",),
        "prediction": ("output",),
        "target": ("gts", "ground_truth"),
        "reward": ("score", "reward"),
        "task": ("data_source", "task"),
        "tokens": ("response_length",),
    },
    typical=frozenset({"input", "output", "score"}),
    step_of_file=r"(\d+)\.jsonl$",
)
