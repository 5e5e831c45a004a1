"""ROLL's rollout_dump_data.step_<n>.jsonl: one line with a list for each column.

global_step, id, prompt, ground_truth, domain, tag, responses, scores, sampling_params (the same in
every row). Source: `roll/pipeline/rlvr/utils.py` (main).
"""

from workbench.diagnosis.logs.layout import LogFormat

FORMAT = LogFormat(
    name="roll",
    names={
        "step": ("global_step",),
        "prompt": ("prompt", "messages"),
        "prediction": ("responses",),
        "target": ("ground_truth",),
        "reward": ("scores",),
        "task": ("domain", "tag"),
    },
    typical=(frozenset({"responses", "scores", "prompt"}),),
    step_of_file=r"step_(\d+)\.jsonl$",
    versions="ROLL main",
)
