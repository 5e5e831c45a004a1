"""prime-rl's and verifiers' traces: `rollouts/step_<n>/train/all/traces.jsonl`.

An episode: id, env, task (data with prompt, key, hash), group.id, run.work.step, traces; a trace:
task, agent, nodes (messages), calls (finish_reason, usage), rewards {name: {score, weight} or
null}, metrics, is_completed, stop_condition. The reward is the weighted sum; a null abstains.
`token_exports/` beside it have neither prompt nor reward and are passed over. Source: verifiers
0.4.0 `verifiers/v1/trace.py`, `episode.py`; prime-rl main.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workbench.diagnosis.logs.layout import LogFormat, LogRow


def unpack(record: LogRow) -> Iterator[LogRow]:
    """One row per trace of an episode; a trace alone is one row."""
    traces = record.get("traces")
    for trace in traces if isinstance(traces, list) else [record]:
        if not isinstance(trace, dict):
            continue
        rewards = trace.get("rewards")
        if not isinstance(rewards, dict):
            continue
        nodes = [one for one in trace.get("nodes") or [] if isinstance(one, dict)]
        calls = [one for one in trace.get("calls") or [] if isinstance(one, dict)]
        run = record.get("run") or {}
        row: LogRow = {
            "step": _inside(run, "work", "step") or _inside(run, "step"),
            "group": _inside(record, "group", "id") or _task(record) or _task(trace),
            "prompt": _inside(record, "task", "data", "prompt")
            or _inside(trace, "task", "data", "prompt")
            or _task(trace),
            "completion": _inside(nodes[-1], "message", "content") if nodes else None,
            "env": _inside(record, "env", "id"),
            "finish_reason": calls[-1].get("finish_reason") if calls else None,
            "tokens": _tokens(calls),
            "reward": _total(rewards),
            "target": _inside(trace, "task", "data", "answer"),
        }
        for name, value in rewards.items():
            score = value.get("score") if isinstance(value, dict) else value
            row.setdefault(str(name), score)
        yield row


def _total(rewards: Mapping[str, Any]) -> float | None:
    """The weighted sum of the rewards that were given."""
    parts = []
    for value in rewards.values():
        if isinstance(value, dict) and isinstance(value.get("score"), (bool, int, float)):
            parts.append(float(value["score"]) * float(value.get("weight") or 0))
        elif isinstance(value, (bool, int, float)):
            parts.append(float(value))
    return sum(parts) if parts else None


def _tokens(calls: list[LogRow]) -> float | None:
    counts = [_inside(call, "usage", "completion_tokens") for call in calls]
    known = [count for count in counts if isinstance(count, (int, float))]
    return sum(known) if known else None


def _task(record: LogRow) -> Any:
    found = _inside(record, "task", "key") or _inside(record, "task", "hash")
    return found if found is not None else _inside(record, "task", "data", "idx")


def _inside(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


FORMAT = LogFormat(
    name="prime-rl",
    names={
        "step": ("step",),
        "prompt": ("prompt",),
        "group": ("group",),
        "prediction": ("completion",),
        "target": ("target",),
        "reward": ("reward",),
        "task": ("env",),
        "tokens": ("tokens",),
        "truncated": ("finish_reason",),
    },
    typical=(frozenset({"traces", "task"}), frozenset({"rewards", "nodes", "task"})),
    step_of_file=r"step_(\d+)/",
    unpack=unpack,
    versions="prime-rl main, verifiers 0.4.0 (v1)",
)
