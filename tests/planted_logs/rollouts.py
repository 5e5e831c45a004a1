"""Made-up training logs with known properties: clean ones, and ones with a planted fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recast import REGIMES
from workbench.diagnosis.diagnosis import diagnose, regime_table
from workbench.diagnosis.logs.read import Log

Rows = list[dict[str, Any]]


def log(
    seed: int = 0,
    *,
    steps: int = 12,
    batch: int = 16,
    group: int = 8,
    mean: float = 0.4,
    spread: float = 0.2,
    repeat: bool = False,
    items: int = 200,
) -> Rows:
    """Rollouts of a healthy run: binary rewards, semantic IDs, GRPO's own advantages.

    Hit probabilities are Beta over prompts; repeat: the same prompts at every step.
    """
    rng = np.random.default_rng(seed)
    scale = 1 / spread - 1
    everyone = rng.beta(mean * scale, (1 - mean) * scale, batch)
    rows: Rows = []
    for step in range(1, steps + 1):
        p = everyone if repeat else rng.beta(mean * scale, (1 - mean) * scale, batch)
        for place in range(batch):
            hit = rng.random(group) < p[place]
            name = f"user {place if repeat else f'{step}-{place}'}"
            target = int(rng.integers(items))
            advantage = (hit - hit.mean()) / (hit.std(ddof=1) + 1e-4) if group > 1 else 0.0 * hit
            for g in range(group):
                code = target if hit[g] else int((target + rng.integers(1, items)) % items)
                rows.append(
                    {
                        "step": step,
                        "prompt": name,
                        "task": "video" if place % 2 else "ad",
                        "prediction": semantic_id(code),
                        "target": semantic_id(target),
                        "reward": float(hit[g]),
                        "advantage": float(advantage[g]),
                        "tokens": 3,
                    }
                )
    return rows


def credited(rows: Rows) -> Rows:
    """The rows with GRPO's advantages of their rewards."""
    groups: dict[tuple[Any, Any], list[float]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["prompt"]), []).append(row["reward"])
    return [
        {
            **row,
            "advantage": (row["reward"] - float(np.mean(mine))) / (float(np.std(mine)) + 1e-4),
        }
        for row in rows
        for mine in [groups[row["step"], row["prompt"]]]
    ]


def semantic_id(code: int) -> str:
    """An item as three codes."""
    return f"<a_{code // 64}><b_{code // 8 % 8}><c_{code % 8}>"


def changed(rows: Rows, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Rows:
    """The rows with some columns replaced, and credited anew where rewards changed."""
    new = [{**row, **change(row)} for row in rows]
    same = all(one["reward"] == other["reward"] for one, other in zip(rows, new, strict=True))
    return new if same else credited(new)


def as_jsonl(rows: Iterable[dict[str, Any]], path: Path) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def as_trl(rows: Rows, folder: Path) -> Path:
    """Write TRL's completions log, one parquet file per step."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    rewards = [c for c in frame.columns if c.endswith("_reward")] or ["reward"]
    extra = [c for c in ("target",) if c in frame.columns]
    for (step,), part in frame.group_by("step", maintain_order=True):
        part.rename({"prediction": "completion"}).select(
            "step", "prompt", "completion", *rewards, *extra, "advantage"
        ).write_parquet(folder / f"completions_{step:05d}.parquet")
    return folder


def as_verl(rows: Rows, folder: Path) -> Path:
    """Write verl's rollout dumps, one JSONL file per step, rows not by group."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for step in sorted({row["step"] for row in rows}):
        mine = [row for row in rows if row["step"] == step]
        as_jsonl(
            (
                {
                    "input": row["prompt"],
                    "output": row["prediction"],
                    "gts": row["target"],
                    "score": row["reward"],
                    "step": step,
                    **({"acc": row["outcome"]} if "outcome" in row else {}),
                }
                for row in (mine[i] for i in rng.permutation(len(mine)))
            ),
            folder / f"{step}.jsonl",
        )
    return folder


def regimes_of(rows: Rows, column: str = "reward") -> dict[str, float]:
    """Regime shares, counted the slow way: a dictionary of groups."""
    groups: dict[tuple[Any, Any], list[bool]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["prompt"]), []).append(row[column] > 0)
    kinds = []
    for hits in groups.values():
        k, n = sum(hits), len(hits)
        kinds.append(
            "all_zero" if k == 0 else "saturated" if k == n else "single_hit" if k == 1
            else "multi_hit"
        )  # fmt: skip
    names = ("all_zero", "single_hit", "multi_hit", "saturated")
    return {name: kinds.count(name) / len(kinds) for name in names}


LONG: dict[str, Any] = {"steps": 40, "batch": 8}


def groups_of(rows: Rows) -> list[Rows]:
    """The rows of each group, in the order of the log."""
    found: dict[tuple[Any, Any], Rows] = {}
    for row in rows:
        found.setdefault((row["step"], row["prompt"]), []).append(row)
    return list(found.values())


def with_column(rows: Rows, name: str, value: Callable[[float, np.random.Generator], Any]) -> Rows:
    """The rows with one more column: a function of how far the run is (0 to 1) and of chance."""
    rng = np.random.default_rng(7)
    last = max(row["step"] for row in rows)
    return [{**row, name: value(row["step"] / last, rng)} for row in rows]


def risen(seed: int, start: float, end: float, steps: int = 40, **options: Any) -> Rows:
    """A run whose mean hit rate moves from start to end."""
    return [
        {**row, "step": step, "prompt": f"{step} {row['prompt']}"}
        for step in range(1, steps + 1)
        for row in log(
            1000 * seed + step,
            steps=1,
            batch=8,
            mean=start + (end - start) * step / steps,
            **options,
        )
    ]


def shares(log: Log, threshold: float | None = None) -> dict[str, float]:
    """Regime shares that the diagnosis of a log finds."""
    table = regime_table(diagnose(log, threshold)).row(0, named=True)
    return {name: table[name] for name in REGIMES}
