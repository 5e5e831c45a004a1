"""Logs of several turns, several sources, several processes, and of dumps that trainers add."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import torch

from foreign_logs.cases import (
    Hits,
    Row,
    Truth,
    answer_of,
    batches,
    case,
    grpo,
    jsonl,
    parquet,
    rng,
    told,
)
from foreign_logs.verl import dump


@case
def miles_trajectories_in_gzip(folder: Path) -> Truth:
    """miles main, `<save>/trajectories/rollout_<id>.jsonl.gz`: the index of a group runs on."""
    r, truth = rng("miles-gz"), Truth(clean=True)
    lines: dict[int, list[Row]] = {}
    for step, place, prompt, answer, hits in batches(r, mean=lambda t: 0.3 + 0.3 * t):
        for g, hit in enumerate(hits):
            row = {"rollout_id": step, "sample_index": 8 * place + g,
                   "group_index": 6 * step + place, "index_in_group": g,
                   "label": str(answer), "reward": int(hit),
                   "status": "completed", "response_length": r.randint(40, 400),
                   "weight_versions": [str(step)], "rollout_time": 12.3, "metadata": {},
                   "prompt": prompt, "response": answer_of(r, answer, hit)}  # fmt: skip
            lines.setdefault(step, []).append(row)
            truth.add((step, place), hit, float(hit))
    here = folder / "log" / "trajectories"
    here.mkdir(parents=True)
    for step, rows in lines.items():
        with gzip.open(here / f"rollout_{step:06d}.jsonl.gz", "wt") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    return truth


def _trained(r: random.Random, truth: Truth, steps: int = 15) -> dict[int, list[Row]]:
    """What slime trains on: tokens, no text."""
    found: dict[int, list[Row]] = {}
    for step, place, _, answer, hits in batches(r, steps=steps, mean=lambda t: 0.3 + 0.3 * t):
        asked = [1, 7, step, place, 5]
        values = grpo([float(hit) for hit in hits], 1e-6)
        for g, (hit, value) in enumerate(zip(hits, values, strict=True)):
            said = [r.randint(10, 999) for _ in range(r.randint(5, 20))] + [answer]
            near = [-r.random() for _ in said]
            found.setdefault(step, []).append(
                {"tokens": torch.tensor(asked + said), "response_lengths": len(said),
                 "rewards": value, "truncated": 0, "loss_masks": torch.ones(len(said)),
                 "advantages": torch.full((len(said),), value),
                 "log_probs": torch.tensor(near),
                 "rollout_log_probs": torch.tensor(near) + 1e-3,
                 "sample_indices": 48 * step + 8 * place + g, "partition": 8 * place + g,
                 "raw": float(hit)}
            )  # fmt: skip
            truth.add((step, place), hit, float(hit))
    return found


@case
def slime_train_data_of_two_ranks(folder: Path) -> Truth:
    """`--save-debug-train-data` before August 2026: a file per rank, columns; rewards are
    normalised by then, raw_reward is whole in every file."""
    r, truth = rng("slime-ranks"), Truth(clean=True)
    for step, rows in _trained(r, truth).items():
        whole = [row.pop("raw") for row in rows]
        for rank in (0, 1):
            mine = rows[rank::2]
            data = {name: [row[name] for row in mine] for name in mine[0]}
            data |= {"raw_reward": whole, "total_lengths": [len(row["tokens"]) for row in rows]}
            here = folder / "log" / f"{step}_{rank}.pt"
            here.parent.mkdir(exist_ok=True)
            torch.save({"rollout_id": step, "rank": rank, "rollout_data": data}, here)
    return truth


@case
def slime_train_data_as_samples(folder: Path) -> Truth:
    """The same since: format_version 2, samples in the order of the rollouts, with the rollouts of
    --dump-details beside them."""
    r, truth = rng("slime-samples"), Truth(clean=True)
    for step, rows in _trained(r, truth).items():
        whole = [row.pop("raw") for row in rows]
        samples = [{**row, "rollout_position": row["partition"],
                    "sample_index": row["sample_indices"]} for row in rows]  # fmt: skip
        here = folder / "log" / "train_data" / f"{step}.pt"
        here.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"format_version": 2, "rollout_id": step, "rank": 0, "samples": samples,
                    "dp_shards": [], "raw_reward": whole}, here)  # fmt: skip
        texts = [
            {"group_index": 6 * step + place // 8, "index": place, "prompt": f"{step} {place // 8}",
             "response": f"{r.random()} {place}", "reward": value, "status": "completed",
             "response_length": rows[place]["response_lengths"], "label": "1"}
            for place, value in enumerate(whole)
        ]  # fmt: skip
        there = folder / "log" / "rollout_data" / f"{step}.pt"
        there.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"rollout_id": step, "samples": texts}, there)
    return truth


@case
def sources_with_scales_of_their_own(folder: Path) -> Truth:
    """One run, three rewards: mathematics 0 or 1, code -1 or 1, puzzles 0 or 10."""
    scales = {"math": (0.0, 1.0), "code": (-1.0, 1.0), "puzzle": (0.0, 10.0)}

    def entry(_r: random.Random, _s: int, place: int, _g: int, _a: int, hit: bool) -> Row:
        name = list(scales)[place % 3]
        return {"data_source": name, "score": scales[name][hit]}

    return dump(folder, "scales", entry, Truth(clean=True), mean=lambda t: 0.3 + 0.2 * t)


@case
def turns_as_rows_with_ids(folder: Path) -> Truth:
    """An agent's own log: a row per turn, the reward at the last one, ids of group and rollout."""
    r, truth = rng("turns"), Truth(clean=True, never=("starved",))
    rows: list[Row] = []
    for step, place, prompt, answer, hits in batches(r, mean=lambda t: 0.35 + 0.3 * t):
        for g, hit in enumerate(hits):
            asked, many = prompt, r.randint(1, 4)
            for turn in range(many):
                last = turn == many - 1
                said = answer_of(r, answer, hit) if last else f"search({r.randint(0, 10**6)})"
                rows.append({"step": step, "group_id": f"q{step}-{place}", "rollout_id": g,
                             "turn": turn, "prompt": asked, "response": said,
                             "reward": float(hit and last)})  # fmt: skip
                asked += f"\n{said}\nresult {r.randint(0, 99)}"
            truth.add((step, place), hit, float(hit))
    jsonl(folder / "log" / "turns.jsonl", rows)
    return truth


@case
def whole_conversations_in_one_column(folder: Path) -> Truth:
    """A fine-tuning service's export: messages with tool calls, and a reward."""
    r, truth = rng("messages"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r, mean=lambda t: 0.3 + 0.3 * t):
        for hit in hits:
            talk = [
                {"role": "system", "content": "Use the tool."},
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": None,
                 "tool_calls": [{"id": "c", "function": {"name": "sum", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": str(r.randint(0, 99))},
                {"role": "assistant", "content": answer_of(r, answer, hit)},
            ]  # fmt: skip
            jsonl(folder / "log.jsonl", [{"step": step, "messages": talk, "reward": float(hit)}])
            truth.add((step, place), hit, float(hit))
    truth.path = "log.jsonl"
    return truth


@case
def tools_in_trl(folder: Path) -> Truth:
    """TRL with tools: completions are conversations, log_extra holds lists and structs."""
    r, truth = rng("trl-tools"), Truth(clean=True)
    steps: dict[int, list[Row]] = {}
    for step, place, prompt, answer, hits in batches(r, mean=lambda t: 0.3 + 0.3 * t):
        values = grpo([float(hit) for hit in hits])
        for hit, value in zip(hits, values, strict=True):
            calls = r.randint(0, 3)
            talk = [{"role": "assistant", "content": f"call {r.random()}"}] * calls
            talk += [{"role": "assistant", "content": answer_of(r, answer, hit)}]
            steps.setdefault(step, []).append(
                {"step": step, "prompt": [{"role": "user", "content": prompt}],
                 "completion": talk, "correctness_reward": float(hit), "solution": [str(answer)],
                 "metadata": {"calls": calls, "level": place}, "num_tool_calls": calls,
                 "tools_used": ["sum"] * calls, "advantage": value}
            )  # fmt: skip
            truth.add((step, place), hit, float(hit))
    for step, rows in steps.items():
        parquet(folder / "log", step, rows)
    return truth


@case
def rewards_of_every_turn(folder: Path) -> Truth:
    """One row per rollout with the list of its turns' rewards: what counts is their sum."""
    r, truth = rng("turn-rewards"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r, mean=lambda t: 0.3 + 0.3 * t):
        for hit in hits:
            rewards = [0.0] * r.randint(0, 4) + [float(hit)]
            jsonl(folder / "log" / "rollouts.jsonl",
                  [{"step": step, "prompt": prompt, "response": answer_of(r, answer, hit),
                    "rewards": rewards}])  # fmt: skip
            truth.add((step, place), hit, float(hit))
    return truth


@case
def tensors_as_text(folder: Path) -> Truth:
    """verl's default=str: a score that is a tensor of one number, an accuracy that is numpy's."""

    def entry(_r: random.Random, _s: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        return {
            "score": f"tensor({float(hit)}, device='cuda:0')",
            "acc": f"np.float64({float(hit)})",
        }

    truth = dump(folder, "tensors", entry, Truth(clean=True), mean=lambda t: 0.3 + 0.3 * t)
    truth.rows = [(group, hit, float(hit)) for group, hit, _ in truth.rows]
    return truth


@case
def steps_that_begin_again_each_epoch(folder: Path) -> Truth:
    """Steps are counted within the epoch, six epochs over the same prompts in one file."""
    r, truth = rng("epoch-steps"), Truth(clean=True)
    asked = [list(batches(r, steps=1, batch=6)) for _ in range(10)]
    for epoch in range(6):
        for step in range(10):
            for _, place, prompt, answer, _ in asked[step]:
                p = r.betavariate(1 + epoch / 2, 2)
                hits = [r.random() < p for _ in range(8)]
                jsonl(folder / "log" / "rollouts.jsonl",
                      [{"epoch": epoch, "step": step, "prompt": f"{step} {prompt}",
                        "completion": answer_of(r, answer, hit), "reward": float(hit)}
                       for hit in hits])  # fmt: skip
                for hit in hits:
                    truth.add((epoch, step, place), hit, float(hit))
    return truth


@case
def nemo_gym_collections(folder: Path) -> Truth:
    """NeMo-Gym's rollouts: responses_create_params, response, reward, the number of the task."""
    r, truth = rng("gym"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r, steps=1, batch=60, group=8):
        for g, hit in enumerate(hits):
            said = [{"type": "message", "content": [{"text": answer_of(r, answer, hit)}]}]
            jsonl(folder / "log" / "rollouts.jsonl",
                  [{"responses_create_params": {"input": [{"role": "user", "content": prompt}]},
                    "response": {"output": said}, "reward": float(hit), "_ng_task_index": place,
                    "_ng_rollout_index": g}])  # fmt: skip
            truth.add((step, place), hit, float(hit))
    return truth


@case
def nemo_rl_with_validation_beside(folder: Path) -> Truth:
    """train_data_step<n>.jsonl and val_data_step<n>.jsonl in one folder."""
    r, truth = rng("nemo-val"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r, steps=15, mean=lambda t: 0.3 + 0.3 * t):
        for hit in hits:
            ids = [1, 2, 500 + step, 700 + place] + [r.randint(9, 99) for _ in range(6)]
            jsonl(folder / "log" / "exp" / f"train_data_step{step}.jsonl",
                  [{"content": [prompt + answer_of(r, answer, hit)], "rewards": [float(hit)],
                    "input_lengths": [10], "token_ids": [ids],
                    "token_loss_mask": [[0] * 4 + [1] * 6], "idx": [place]}])  # fmt: skip
            truth.add((step, place), hit, float(hit))
        if step % 5 == 0 and place == 0:
            jsonl(
                folder / "log" / "exp" / f"val_data_step{step}.jsonl",
                [{"content": [f"held out {n}"], "rewards": [1.0], "idx": [n]} for n in range(40)],
            )
    return truth


@case
def critic_with_one_rollout_each(folder: Path) -> Truth:
    """PPO: every prompt once, advantages from a value model."""

    def entry(r: random.Random, _s: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        return {"advantages": float(hit) - 0.4 + r.gauss(0, 0.1)}

    return dump(folder, "ppo", entry, Truth(must=("group_of_one",)), group=1, batch=48)


@case
def two_hundred_and_fifty_six_of_each(folder: Path) -> Truth:
    """Huge groups, few prompts."""
    return dump(folder, "huge", lambda *_: {}, Truth(clean=True), batch=2, group=256, steps=20,
                mean=lambda t: 0.1 + 0.2 * t)  # fmt: skip


@case
def pairs(folder: Path) -> Truth:
    """G = 2, prompts of middling difficulty: half of the groups are equal, as they must be."""
    return dump(folder, "pairs", lambda *_: {}, Truth(never=("starved", "saturated", "plateau")),
                batch=24, group=2, spread=60.0, mean=lambda t: 0.45 + 0.1 * t)  # fmt: skip


@case
def only_groups_that_differ(folder: Path) -> Truth:
    """DAPO after the filter: the dump holds learnable groups alone, some steps fewer of them."""
    r, truth = rng("filtered"), Truth(clean=True, never=("saturated", "starved"))
    for step, place, prompt, answer, hits in batches(r, batch=14, mean=lambda t: 0.3 + 0.3 * t):
        if len(set(hits)) == 1:
            continue
        jsonl(folder / "log" / f"{step}.jsonl",
              [{"input": prompt, "output": answer_of(r, answer, hit), "gts": str(answer),
                "score": 2.0 * hit - 1, "acc": hit, "step": step} for hit in hits])  # fmt: skip
        for hit in hits:
            truth.add((step, place), hit, 2.0 * hit - 1)
    return truth


def _told(r: random.Random, answer: int, hits: Hits) -> list[str]:
    return [told(r, answer if hit else answer + 1) for hit in hits]


@case
def dumps_of_every_tenth_step(folder: Path) -> Truth:
    """Rollouts were dumped now and then: steps 1, 10, 20, ... and one folder deeper per hundred."""
    r, truth = rng("gaps"), Truth(clean=True)
    steps = [1, *range(10, 400, 10)]
    for step, place, prompt, answer, hits in batches(r, steps=40, mean=lambda t: 0.3 + 0.3 * t):
        at = steps[step - 1]
        jsonl(folder / "log" / f"part_{at // 100}" / "dump" / f"{at}.jsonl",
              [{"input": prompt, "output": text, "gts": str(answer), "score": float(hit),
                "step": at}
               for hit, text in zip(hits, _told(r, answer, hits), strict=True)])  # fmt: skip
        for hit in hits:
            truth.add((step, place), hit, float(hit))
    return truth
