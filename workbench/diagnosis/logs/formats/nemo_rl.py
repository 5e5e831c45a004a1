"""NeMo-RL's train_data_step<n>.jsonl: one line per sample, each value a list of one.

content (prompt and answer in one text, or a list of messages), rewards, input_lengths, token_ids,
token_loss_mask, advantages (per token), generation_logprobs, prev_logprobs, idx. There is no
prompt: samples whose tokens before the first trained one are the same are one group. Source:
`nemo_rl/algorithms/grpo.py`, `utils/logger.py` (main).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from workbench.diagnosis.logs.layout import LogFormat, LogRow


def unpack(record: LogRow) -> Iterator[LogRow]:
    """One row of a sample; its prompt are the tokens that are not trained on."""
    row = {name: _one(value) for name, value in record.items()}
    ids, mask = row.get("token_ids"), row.get("token_loss_mask")
    lengths = row.get("input_lengths")
    if isinstance(ids, list) and isinstance(mask, list):
        end = len(ids)
        if isinstance(lengths, (int, float)) and 0 < lengths < end:
            end = int(lengths)
        first = next((place for place in range(min(end, len(mask))) if mask[place]), end)
        # A prompt of a token or two is a stub: it tells no groups apart.
        row["prompt_tokens"] = json.dumps(ids[:first]) if first > 2 else None
        row["response_tokens"] = end - first
        for name, to in (("generation_logprobs", "logp"), ("advantages", "advantage")):
            values = row.get(name)
            if isinstance(values, list) and len(values) >= end > first:
                part = [v for v in values[first:end] if isinstance(v, (int, float))]
                if part:
                    row[to] = sum(part) if to == "logp" else part[0]
    content = row.get("content")
    if isinstance(content, list):
        row["response"] = content[-1]
    yield {name: value for name, value in row.items() if name not in HEAVY}


HEAVY = ("token_ids", "advantages", "content")


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


FORMAT = LogFormat(
    name="nemo-rl",
    names={
        "step": ("step",),
        "prompt": ("prompt_tokens", "prompt"),
        "prediction": ("response",),
        "reward": ("rewards", "total_reward"),
        "advantage": ("advantage",),
        "logp": ("logp",),
        "tokens": ("response_tokens",),
        "task": ("task_name", "agent_ref"),
        "truncated": ("truncated",),
    },
    typical=(
        frozenset({"content", "rewards", "input_lengths"}),
        frozenset({"rewards", "token_ids", "token_loss_mask"}),
    ),
    step_of_file=r"train_data_step(\d+)\.jsonl$",
    unpack=unpack,
    versions="NeMo-RL main",
)
