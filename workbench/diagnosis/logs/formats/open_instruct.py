"""open-instruct's <run>_rollouts_<shard>.jsonl.

step, sample_idx, prompt_idx, prompt_tokens, response_tokens (lists of ids), reward, advantage,
finish_reason, dataset, ground_truth, request_info, logprobs. Source: `open_instruct/rl_utils.py`
(main).
"""

from __future__ import annotations

from collections.abc import Iterator

from workbench.diagnosis.logs.layout import LogFormat, LogRow


def unpack(record: LogRow) -> Iterator[LogRow]:
    """The row, with the number of its tokens and the sum of their log-probabilities."""
    row = dict(record)
    said, logprobs = row.get("response_tokens"), row.pop("logprobs", None)
    if isinstance(said, list):
        row["length"] = len(said)
    if isinstance(logprobs, list):
        known = [v for v in logprobs if isinstance(v, (int, float))]
        row["logp"] = sum(known) if known else None
    yield row


FORMAT = LogFormat(
    name="open-instruct",
    names={
        "step": ("step",),
        "prompt": ("prompt_tokens", "prompt_idx"),
        "group": ("prompt_idx",),
        "prediction": ("response_tokens",),
        "target": ("ground_truth",),
        "reward": ("reward",),
        "advantage": ("advantage",),
        "task": ("dataset",),
        "logp": ("logp",),
        "tokens": ("length",),
        "truncated": ("finish_reason",),
    },
    typical=(
        frozenset({"prompt_idx", "reward"}),
        frozenset({"prompt_tokens", "response_tokens", "reward", "advantage"}),
    ),
    unpack=unpack,
    versions="open-instruct main",
)
