"""verl's rollout dumps: `trainer.rollout_data_dir` gets one <step>.jsonl per step.

Keys: input, output, score, step, gts (from 0.6 on), and (V0, `ray_trainer.py`) whatever the reward
function returned besides (`acc`, say) and request_id; values that JSON does not know are written as
text ("True"). V1 (`ppo/v1/trainer_base.py`) writes uid, `<sample>_<rollout>_<output>`:
the outputs of one rollout are rows of their own, and its last one counts. Rows are in the order of
the balanced batch (V0) or sorted by uid (V1).
"""

from workbench.diagnosis.logs.layout import LogFormat

NAMES = {
    "step": ("step",),
    "prompt": ("input",),
    "group": ("uid",),
    "prediction": ("output",),
    "target": ("gts", "ground_truth"),
    "reward": ("score", "reward"),
    "task": ("data_source", "task"),
    "tokens": ("response_length",),
    "advantage": ("advantage", "advantages"),
    "entropy": ("entropy",),
    "truncated": ("truncated", "is_truncated", "finish_reason", "stop_reason"),
}

FORMAT = LogFormat(
    name="verl",
    names=NAMES,
    typical=(frozenset({"input", "output", "score"}),),
    step_of_file=r"(\d+)\.jsonl$",
    versions="verl 0.5.0, 0.6.1, 0.9.1 (V0 and V1)",
)
