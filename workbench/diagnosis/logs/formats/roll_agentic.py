"""ROLL's dump of agents: rollout_dump_data.step_<n>.jsonl, one line with a list for each column.

trajectory_data holds each trajectory as JSON text, with env_info (tag, group_id, seed, env_id),
reward_info (episode_reward, final_reward), length_info and failure_info (stop_reason); messages is
JSON text as well; global_step. The environments of one group and seed are a group. Sources:
`roll/pipeline/agentic/env_manager/agent_native_env_manager.py`, `roll/pipeline/agentic/utils.py`
(main).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from workbench.diagnosis.logs.layout import LogFormat, LogRow


def unpack(record: LogRow) -> Iterator[LogRow]:
    """One row per trajectory."""
    many = record.get("trajectory_data")
    for place, cell in enumerate(many if isinstance(many, list) else [many]):
        said = _opened(cell)
        if not isinstance(said, dict):
            continue
        env, reward, length, end = (
            one if isinstance(one := said.get(name), dict) else {}
            for name in ("env_info", "reward_info", "length_info", "failure_info")
        )
        talk = _opened(_at(record.get("messages"), place))
        turns = [one for one in talk if isinstance(one, dict)] if isinstance(talk, list) else []
        said_last = [one.get("content") for one in turns if one.get("role") == "assistant"]
        asked = next((one.get("content") for one in turns if one.get("role") == "user"), None)
        yield {
            "global_step": _at(record.get("global_step"), place),
            "group": ":".join(str(env.get(name)) for name in ("tag", "group_id", "seed")),
            "prompt": asked,
            "response": said_last[-1] if said_last else None,
            "reward": reward.get("episode_reward", said.get("episode_score")),
            "tokens": length.get("response_length"),
            "stop_reason": end.get("stop_reason"),
            "tag": env.get("tag"),
        }


def _at(column: Any, place: int) -> Any:
    if not isinstance(column, list):
        return column
    return column[place] if place < len(column) else None


def _opened(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return None


FORMAT = LogFormat(
    name="roll-agentic",
    names={
        "step": ("global_step",),
        "prompt": ("prompt",),
        "group": ("group",),
        "prediction": ("response",),
        "reward": ("reward",),
        "task": ("tag",),
        "tokens": ("tokens",),
        "truncated": ("stop_reason",),
    },
    typical=(frozenset({"trajectory_data", "global_step"}),),
    step_of_file=r"step_(\d+)\.jsonl$",
    unpack=unpack,
    versions="ROLL main",
)
