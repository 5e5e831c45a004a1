"""AReaL's trajectory dump: `<version>/<task_id>.jsonl`, the samples of one task in a file.

task_id, sample_idx, seqlen, prompt_len, head_version, tail_version, reward, prompt, completion. The
step is the folder's version, else the version of the weights at the end of the sample; a task is a
group. Source: `areal/infra/workflow_executor.py` (1.0.4).
"""

from workbench.diagnosis.logs.layout import LogFormat

FORMAT = LogFormat(
    name="areal",
    names={
        "step": ("tail_version",),
        "prompt": ("prompt",),
        "group": ("task_id",),
        "prediction": ("completion",),
        "reward": ("reward",),
    },
    typical=(frozenset({"task_id", "sample_idx", "reward", "tail_version"}),),
    step_of_file=r"(\d+)/\d+\.jsonl$",
    file_first=True,
    versions="AReaL 1.0.4",
)
