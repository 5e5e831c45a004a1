"""prime-rl's and verifiers' traces: `rollouts/step_<n>/train/all/traces.jsonl`.

An episode: id, env, task (data with prompt, key, hash), group.id, run.work (type train or eval,
step, policy.start and .end, the versions that sampled), traces; a trace: task, agent (name,
trainable), nodes (message, sampled, and per sampled token logprobs, trainer_logprobs, entropies,
advantages), calls (finish_reason, usage), rewards {name: {score, weight} or null}, stop_condition.
The reward is the weighted sum; a null abstains.
Agents that are not trained (a judge, a simulated user) are passed over where others are; several
that are trained have groups of their own. `token_exports/` beside it have neither prompt nor
reward. Source: verifiers 0.4.0 `verifiers/v1/trace.py`, `episode.py`, `graph.py`; prime-rl main.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench.diagnosis.logs.layout import LogFormat, LogRow
from workbench.diagnosis.logs.signs import CUT


def unpack(record: LogRow) -> Iterator[LogRow]:
    """One row per trace of an episode; a trace alone is one row."""
    traces = record.get("traces")
    there = [one for one in (traces if isinstance(traces, list) else [record])
             if isinstance(one, dict) and isinstance(one.get("rewards"), dict)]  # fmt: skip
    trained = [one for one in there if _inside(one, "agent", "trainable") is not False]
    names = {_inside(one, "agent", "name") for one in trained}
    for trace in trained or there:
        yield _row(record, trace, several=len(names) > 1)


def _row(record: LogRow, trace: LogRow, several: bool) -> LogRow:
    """A trace as a row. several: agents of other names are trained beside it."""
    nodes = [one for one in trace.get("nodes") or [] if isinstance(one, dict)]
    calls = [one for one in trace.get("calls") or [] if isinstance(one, dict)]
    sampled = [one for one in nodes if one.get("sampled")] or nodes[-1:]
    run = record.get("run") or {}
    group = _inside(record, "group", "id") or _task(record) or _task(trace)
    agent = _inside(trace, "agent", "name")
    row: LogRow = {
        "step": _first(_inside(run, "work", "step"), _inside(run, "step")),
        "split": _inside(run, "work", "type"),
        "group": f"{group}:{agent}" if several and group is not None else group,
        "prompt": _inside(record, "task", "data", "prompt")
        or _inside(trace, "task", "data", "prompt")
        or _task(trace),
        "completion": _inside(sampled[-1], "message", "content") if sampled else None,
        "env": _inside(record, "env", "id"),
        "finish_reason": _reason(trace, calls),
        "policy_version": _inside(run, "work", "policy", "start"),
        "tokens": _tokens(calls),
        "reward": _total(trace["rewards"]),
        "target": _inside(trace, "task", "data", "answer"),
        "advantage": _mean(_tokenwise(sampled, "advantages")),
        "entropy": _mean(_tokenwise(sampled, "entropies")),
        "rollout_logprobs": _tokenwise(sampled, "logprobs"),
        "trainer_logprobs": _tokenwise(sampled, "trainer_logprobs"),
    }
    for name, value in trace["rewards"].items():
        score = value.get("score") if isinstance(value, dict) else value
        row.setdefault(str(name), score)
    return row


def _first(*values: Any) -> Any:
    return next((one for one in values if one is not None), None)


def _reason(trace: LogRow, calls: Sequence[LogRow]) -> Any:
    """Why it ended: the trace's own condition where it is a limit, else the last call's reason."""
    condition = trace.get("stop_condition")
    if condition in CUT or trace.get("is_truncated") is True:
        return condition if condition in CUT else "length"
    return calls[-1].get("finish_reason") if calls else None


def _tokenwise(nodes: Sequence[LogRow], name: str) -> list[float]:
    """A stream of sampled tokens over all turns; empty where a turn has none."""
    streams = [one.get(name) for one in nodes]
    if not all(isinstance(one, list) for one in streams):
        return []
    return [value for one in streams for value in one or ()]


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in values if isinstance(value, (int, float))]
    return sum(known) / len(known) if known else None


def _total(rewards: Mapping[str, Any]) -> float | None:
    """The weighted sum of the rewards that were given."""
    parts = []
    for value in rewards.values():
        if isinstance(value, dict) and isinstance(value.get("score"), (bool, int, float)):
            parts.append(float(value["score"]) * float(value.get("weight") or 0))
        elif isinstance(value, (bool, int, float)):
            parts.append(float(value))
    return sum(parts) if parts else None


def _tokens(calls: Sequence[LogRow]) -> float | None:
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
        "advantage": ("advantage",),
        "entropy": ("entropy",),
    },
    typical=(frozenset({"traces", "task"}), frozenset({"rewards", "nodes", "task"})),
    step_of_file=r"step_(\d+)/",
    unpack=unpack,
    versions="prime-rl main, verifiers 0.4.0 (v1)",
)
