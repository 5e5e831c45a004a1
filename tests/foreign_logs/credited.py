"""Who judged, over which rows a mean was taken, and what was taken off: small logs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import mean as average
from statistics import stdev
from typing import Any

from foreign_logs.cases import (
    Hits,
    Row,
    Truth,
    answer_of,
    batches,
    case,
    grpo,
    jsonl,
    rise,
    rng,
    table,
)
from foreign_logs.trl import run
from foreign_logs.verl import dump

SMALL: dict[str, Any] = {"steps": 6, "batch": 4}


@case
def each_task_has_a_function_and_a_scale(folder: Path) -> Truth:
    """Mathematics pays 2 and code 1, each function is None for the other, the form adds a little:
    both are the outcome, on their own scales."""
    rows = 0

    def judge(r: random.Random, hit: bool) -> Row:
        nonlocal rows
        rows += 1
        code = (rows - 1) // 8 % 2
        return {"math_verify_fn": None if code else 2.0 * hit, "format_fn": 0.1 * r.randint(0, 1),
                "unit_tests_fn": float(hit) if code else None}  # fmt: skip

    return run(folder, "own scale", judge, truth=Truth(clean=True, says=("task by task",)), **SMALL)


@case
def judged_by_task_and_never_right(folder: Path) -> Truth:
    rows = 0

    def judge(r: random.Random, _hit: bool) -> Row:
        nonlocal rows
        rows += 1
        names = ("verify_sums", "verify_queries", "verify_puzzles")
        at = (rows - 1) // 8 % 3
        return {**{name: 0.0 if n == at else None for n, name in enumerate(names)},
                "xml_format": 0.1 * r.randint(0, 1)}  # fmt: skip

    truth = Truth(must=("starved",), never=("saturated",))
    return run(folder, "never right", judge, truth=truth, mean=0.0, steps=10, batch=6)


@case
def a_function_without_a_name_that_never_pays(folder: Path) -> Truth:
    """Advantages say nothing of what is 0 throughout; only the form is paid."""
    truth = Truth(must=("starved",), never=("saturated",))
    return run(folder, "never pays", lambda r, _: {"countdown": 0.0, "xml": 0.5 * r.randint(0, 1)},
               truth=truth, mean=0.0, **SMALL)  # fmt: skip


@case
def advantages_of_every_sixth_row(folder: Path) -> Truth:
    """view(G, P) in the place of view(P, G): the rollouts of a prompt stand together."""
    r, truth = rng("sixth"), Truth(must=("groups_mixed",), never=("rows_outside_mean", "starved"))
    for step in range(1, 11):
        made = list(batches(r, steps=1, batch=6))
        rewards = [float(hit) for *_, hits in made for hit in hits]
        given = [0.0] * len(rewards)
        for first in range(6):
            given[first::6] = grpo(rewards[first::6])
        rows: list[Row] = []
        for _, place, prompt, answer, hits in made:
            for hit in hits:
                rows.append({"step": step, "prompt": f"{step} {prompt}", "reward": float(hit),
                             "response": answer_of(r, answer, hit),
                             "advantage": given[len(rows)]})  # fmt: skip
                truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / "rollouts.jsonl", rows)
    return truth


@case
def harder_prompts_weigh_more(folder: Path) -> Truth:
    """Centred rewards times a weight of their group, rollouts of a prompt in a row: its own."""

    def group(_r: random.Random, _s: int, _p: int, hits: Hits) -> list[Row]:
        mean = sum(hits) / len(hits)
        return [{"advantage": 1.3 * (hit - mean) * (1.5 - mean)} for hit in hits]

    return table(folder, "weigh", group, Truth(clean=True), **SMALL)


@case
def a_value_is_taken_off(folder: Path) -> Truth:
    """PPO with a critic and eight rollouts each: the reward less the value of its prompt."""

    def group(r: random.Random, _s: int, _p: int, hits: Hits) -> list[Row]:
        value = 0.2 + 0.5 * sum(hits) / len(hits) + r.gauss(0, 0.1)
        return [{"advantage": hit - value} for hit in hits]

    says = ("of each prompt's own", "value model", "rejected or padded")
    return table(folder, "value", group, Truth(clean=True, says=says), **SMALL)


@case
def a_value_and_a_whitened_batch(folder: Path) -> Truth:
    """The same, whitened over each batch."""
    r, truth = rng("white"), Truth(clean=True, says=("value model",))
    for step in range(1, 9):
        rows: list[Row] = []
        for _, place, prompt, answer, hits in batches(r, steps=1):
            value = 0.2 + 0.5 * sum(hits) / len(hits) + r.gauss(0, 0.1)
            for hit in hits:
                rows.append({"step": step, "prompt": f"{step}: {prompt}", "reward": float(hit),
                             "response": answer_of(r, answer, hit),
                             "advantage": hit - value})  # fmt: skip
                truth.add((step, place), hit, float(hit))
        mean, spread = (of([row["advantage"] for row in rows]) for of in (average, stdev))
        whitened = [{**row, "advantage": (row["advantage"] - mean) / spread} for row in rows]
        jsonl(folder / "log" / "rollouts.jsonl", whitened)
    return truth


@case
def two_functions_of_which_neither_is_form(folder: Path) -> Truth:
    """Both judge every rollout: which of them is the outcome nobody can know."""
    truth = Truth(clean=True, counted=False, says=("(--outcome: sql_runs, plan_overlap?)",))
    return run(folder, "neither", lambda r, hit: {"sql_runs": float(hit),
               "plan_overlap": round(r.uniform(0.2, 0.5) + 0.4 * hit, 3)}, truth=truth,
               **SMALL)  # fmt: skip


@case
def a_value_for_every_rollout(folder: Path) -> Truth:
    """The same with values by token, averaged: no two rollouts have the same taken off."""

    def group(r: random.Random, _s: int, _p: int, hits: Hits) -> list[Row]:
        value = 0.2 + 0.5 * sum(hits) / len(hits)
        return [{"advantage": hit - value - r.gauss(0, 0.1)} for hit in hits]

    return table(folder, "values", group, Truth(clean=True), **SMALL)


@case
def sessions_that_come_a_step_late(folder: Path) -> Truth:
    """verl V1, asynchronous: uids name the rollout and its output, slow ones are a step late."""

    def entry(_r: random.Random, step: int, place: int, g: int, *_: Any) -> Row:
        late = place == 3 and g > 4 and step < 6
        return {"uid": f"{step:03d}ab{place}_{g}_0", "step": step + late}

    truth = dump(folder, "late", entry, Truth(clean=True, says=("two steps in a row",)), **SMALL)
    rows: dict[int, list[Row]] = {}
    for path in sorted((folder / "log").glob("*.jsonl")):
        for row in map(json.loads, path.read_text().splitlines()):
            rows.setdefault(row["step"], []).append(row)
        path.unlink()
    for step, mine in rows.items():
        jsonl(folder / "log" / f"{step}.jsonl", mine)
    return truth


@case
def traces_of_an_old_policy(folder: Path) -> Truth:
    """prime-rl: the episode says with which versions it was sampled."""
    r, truth = rng("old policy"), Truth(must=("stale_rollouts",), clean=True)
    for step, place, prompt, answer, hits in batches(r, steps=12, batch=3):
        task = {"type": "T", "data": {"idx": place, "prompt": prompt}}
        work = {"type": "train", "step": step, "policy": {"start": max(0, step - 7), "end": step}}
        rows = [
            {"task": task, "group": {"id": f"g{step}-{place}"}, "run": {"work": work},
             "traces": [{"task": task, "rewards": {"correct": {"score": float(hit), "weight": 1.0}},
                         "nodes": [{"message": {"role": "assistant",
                                                "content": answer_of(r, answer, hit)}}]}]}
            for hit in hits
        ]  # fmt: skip
        jsonl(folder / "log" / f"step_{step}" / "traces.jsonl", rows)
        for hit in hits:
            truth.add((step, place), hit, float(hit))
    return truth


@case
def a_kl_that_grows_by_half_each_step(folder: Path) -> Truth:
    """A CSV of OpenRLHF's: its spread at the end is as large as its mean. The score stands, then
    falls, which is no plateau."""
    rows = [f"{step},{0.4 - 0.3 * (step > 50)},{0.01 * 1.5 ** max(0, step - 45)},300"
            for step in range(1, 66)]  # fmt: skip
    (folder / "log").mkdir(parents=True)
    names = "train/global_step,train/reward,train/kl,train/response_length"
    (folder / "log" / "export.csv").write_text("\n".join([names, *rows]) + "\n")
    return Truth(must=("kl_explosion", "late_collapse"), never=("starved",))


@case
def ties_to_nearly_everything(folder: Path) -> Truth:
    """A judge that is not understood: win 1, tie .5, loss 0, and nearly every group is a tie."""
    truth, r = Truth(must=("constant_reward",), counted=False, says=("reward 0.5",)), rng("ties")
    rows: list[Row] = []
    for step in range(1, 16):
        for place in range(6):
            live = r.random() < 0.06
            for _ in range(8):
                reward = r.choice((0.0, 0.5, 1.0)) if live else 0.5
                said = {"step": step, "prompt": f"An essay: {step}.{place}", "reward": reward}
                rows.append({**said, "completion": answer_of(r, place, live)})
                truth.add((step, place), reward > 0.5, reward)
    jsonl(folder / "log" / "judged.jsonl", rows)
    return truth


@case
def wins_ties_and_losses(folder: Path) -> Truth:
    """The same judge when it works: nobody knows whether a tie is a hit."""
    r, truth = rng("wins"), Truth(clean=True, counted=False, says=("--threshold",))
    rows: list[Row] = []
    for step, place, prompt, answer, hits in batches(r, mean=rise, steps=15):
        for hit in hits:
            reward = 1.0 if hit else r.choice((0.0, 0.0, 0.5))
            said = {"step": step, "prompt": prompt, "reward": reward}
            rows.append({**said, "completion": answer_of(r, answer, hit)})
            truth.add((step, place), hit, reward)
    jsonl(folder / "log" / "judged.jsonl", rows)
    return truth


@case
def two_functions_that_nearly_never_pay(folder: Path) -> Truth:
    """Neither is form, and which is the outcome nobody knows: nine groups in ten are 0 by both."""
    dead = Truth(must=("constant_reward",), never=("saturated",), counted=False)
    return run(folder, "dead", lambda r, hit: {"runs": float(hit or r.random() < 0.004),
               "rows": float(hit)}, truth=dead, mean=0.02, spread=0.5, steps=15)  # fmt: skip
