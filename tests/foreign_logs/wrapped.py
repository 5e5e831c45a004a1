"""Rollouts inside something else: envelopes, databases, cells, parts by worker, lists of lists."""

from __future__ import annotations

import csv
import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from foreign_logs.cases import Row, Truth, answer_of, batches, case, jsonl, rng

Group = tuple[int, int, str, list[Row]]


def sampled(r: random.Random, truth: Truth, steps: int = 12, batch: int = 5) -> Iterator[Group]:
    """step, place, prompt and a group of rollouts with step, prompt, completion and reward."""
    for step, place, prompt, answer, hits in batches(r, steps=steps, batch=batch):
        rows = []
        for hit in hits:
            truth.add((step, place), hit, float(hit))
            rows.append(
                {
                    "step": step,
                    "prompt": prompt,
                    "completion": answer_of(r, answer, hit),
                    "reward": float(hit),
                }
            )
        yield step, place, prompt, rows


def a_line_each(name: str, folder: Path, of: Callable[[Row], Row]) -> Truth:
    """A clean log with one line per rollout, its fields wherever `of` puts them."""
    truth = Truth(clean=True)
    for *_, rows in sampled(rng(name), truth):
        jsonl(folder / "log" / "rollouts.jsonl", [of(row) for row in rows])
    return truth


def a_table(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@case
def an_event_with_its_data(folder: Path) -> Truth:
    """Structured logging: losses first, and rollouts in `data`."""
    jsonl(folder / "log" / "rollouts.jsonl", [{"ts": "0", "event": "train", "data": {"loss": 0.1}}])
    return a_line_each("event", folder, lambda row: {"ts": "1", "event": "rollout", "data": row})


@case
def metadata_says_what_it_earned(folder: Path) -> Truth:
    """RAGEN's agent proxy: messages, and group, step and total in `metadata`."""

    def of(row: Row) -> Row:
        said = [{"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]}]  # fmt: skip
        extra = {"group_id": row["prompt"][:12], "total_reward": row["reward"], "num_turns": 1}
        return {"messages": said, "metadata": {**extra, "step": row["step"]}}

    return a_line_each("metadata", folder, of)


@case
def scores_have_names(folder: Path) -> Truth:
    """Langfuse's export: scores as objects in a list."""
    return a_line_each("scores", folder, lambda row: {
        "input": row["prompt"], "output": row["completion"], "metadata": {"step": row["step"]},
        "scores": [{"name": "reward", "value": row["reward"]}]})  # fmt: skip


@case
def everything_two_levels_down(folder: Path) -> Truth:
    """Episodes whose `answer` is what was answered, not the ground truth."""
    return a_line_each("levels", folder, lambda row: {
        "episode": {"task": {"prompt": row["prompt"]}, "answer": row["completion"],
                    "outcome": {"reward": row["reward"]}},
        "training": {"step": row["step"]}})  # fmt: skip


@case
def objects_that_are_no_rollouts(folder: Path) -> Truth:
    """Settings in every row have a group, a step and a reward of their own."""
    own = {"group": 1, "step": 1, "reward": 2.0}
    return a_line_each("settings", folder, lambda row: {**row, "config": own, "env": own})


@case
def turns_are_paid(folder: Path) -> Truth:
    """Rewards of turns beside one answer."""
    return a_line_each("turns", folder, lambda row: {
        "step": row["step"], "task_id": row["prompt"], "response": row["completion"],
        "turn_rewards": [0.0, row["reward"]]})  # fmt: skip


@case
def every_prompt_has_a_memory(folder: Path) -> Truth:
    """Agents: no two prompts are equal, `task_id` tells the groups."""
    r = rng("memories")
    return a_line_each("memory", folder, lambda row: {
        **row, "task_id": row["prompt"][:12],
        "prompt": f"{r.random()} {row['prompt']}"})  # fmt: skip


@case
def epochs_are_all_that_counts(folder: Path) -> Truth:
    """Every prompt once an epoch, epochs as fractions, no step."""
    truth, r = Truth(clean=True), rng("epochs")
    asked = [f"Question {i}: how many?" for i in range(30)]
    level = {prompt: r.betavariate(1.2, 1.4) for prompt in asked}
    for epoch in range(3):
        for place, prompt in enumerate(asked):
            for _ in range(8):
                hit = r.random() < level[prompt]
                truth.add((epoch, prompt), hit, float(hit))
                jsonl(folder / "log" / "samples.jsonl", [{
                    "epoch": round(epoch + place / 30, 4), "prompt": prompt,
                    "response": answer_of(r, 4, hit), "reward": float(hit)}])  # fmt: skip
    return truth


@case
def a_verdict_from_the_middle_on(folder: Path) -> Truth:
    """verl, upgraded at step 7: `acc` is logged from there on."""
    truth = Truth(clean=True)
    for step, _, prompt, rows in sampled(rng("upgrade"), truth):
        later = {"acc": True} if step > 6 else {}
        jsonl(folder / "log" / f"{step}.jsonl", [
            {"input": prompt, "output": row["completion"], "score": row["reward"], "step": step,
             **dict.fromkeys(later, row["reward"])} for row in rows])  # fmt: skip
    return truth


@case
def workers_share_every_group(folder: Path) -> Truth:
    """A folder for each step, a file for each rank, half of every group in each."""
    truth = Truth(clean=True)
    for step, _, _, rows in sampled(rng("ranks"), truth):
        for rank in (0, 1):
            part = [{k: v for k, v in row.items() if k != "step"} for row in rows[rank::2]]
            jsonl(folder / "log" / f"step_{step}" / f"rank_{rank}.jsonl", part)
    return truth


@case
def a_step_in_lists_of_lists(folder: Path) -> Truth:
    """prompts [P], completions [P][G], rewards [P][G]."""
    truth, steps = Truth(clean=True), dict[int, Row]()
    for step, _, prompt, rows in sampled(rng("lists"), truth):
        line = steps.setdefault(
            step, {"step": step, "prompts": [], "completions": [], "rewards": []}
        )
        line["prompts"].append(prompt)
        line["completions"].append([row["completion"] for row in rows])
        line["rewards"].append([row["reward"] for row in rows])
    jsonl(folder / "log" / "steps.jsonl", list(steps.values()))
    return truth


@case
def verdicts_beside_generations(folder: Path) -> Truth:
    """A data set of reasoning traces: what was generated, and whether each is right."""
    truth = Truth(clean=True)
    for step, _, prompt, rows in sampled(rng("verdicts"), truth):
        jsonl(folder / "log" / "data.jsonl", [{
            "step": f"step_{step:04d}", "problem": prompt, "answer": "4",
            "generations": [row["completion"] for row in rows],
            "correctness_math_verify": [row["reward"] > 0 for row in rows]}])  # fmt: skip
    return truth


@case
def a_document_by_step(folder: Path) -> Truth:
    truth, steps = Truth(clean=True), dict[str, list[Row]]()
    for step, _, _, rows in sampled(rng("by step"), truth):
        kept = [{name: v for name, v in row.items() if name != "step"} for row in rows]
        steps.setdefault(f"step_{step}", []).extend(kept)
    (folder / "log").mkdir()
    (folder / "log" / "all.json").write_text(json.dumps(steps, indent=1))
    return truth


@case
def functions_in_an_object_of_lists(folder: Path) -> Truth:
    """rewards {accuracy: [n], format: [n]} beside prompts [n]."""
    truth = Truth(clean=True)
    for step, _, prompt, rows in sampled(rng("functions"), truth):
        rewards = {"accuracy": [row["reward"] for row in rows], "format": [1.0] * len(rows)}
        jsonl(folder / "log" / "steps.jsonl", [{
            "step": step, "prompts": [prompt] * len(rows), "rewards": rewards,
            "completions": [row["completion"] for row in rows]}])  # fmt: skip
    return truth


@case
def lists_that_python_wrote(folder: Path) -> Truth:
    """pandas: cells with a list of texts, and numpy's array of rewards."""
    truth, table = Truth(clean=True), []
    for step, _, prompt, rows in sampled(rng("python"), truth):
        paid = " ".join(f"{row['reward']:.0f}." for row in rows)
        table.append(
            {
                "step": step,
                "prompt": prompt,
                "rewards": f"[{paid}]",
                "responses": repr([f"{one['completion']} it's" for one in rows]),
            }
        )
    a_table(folder / "log" / "groups.csv", table)
    return truth


@case
def a_reward_that_python_wrote(folder: Path) -> Truth:
    """A dict in a cell, and JSON flattened by pandas."""
    truth, table = Truth(clean=True), []
    for *_, rows in sampled(rng("dict"), truth):
        table += [
            {"meta.step": row["step"], "sample.prompt": row["prompt"],
             "sample.completion": row["completion"],
             "rewards": repr({"accuracy": row["reward"], "format": 1.0})}
            for row in rows
        ]  # fmt: skip
    a_table(folder / "log" / "flat.csv", table)
    return truth


@case
def a_database_of_its_own(folder: Path) -> Truth:
    """SQLite: prompts in one table, samples in another."""
    truth = Truth(clean=True)
    (folder / "log").mkdir()
    with closing(sqlite3.connect(folder / "log" / "train.sqlite3")) as database:
        database.execute("create table prompts (id integer primary key, text text)")
        database.execute("create table samples (prompt_id int, step int, reward real, text text)")
        for step, place, _, rows in sampled(rng("database"), truth):
            cells = [(step * 100 + place, step, row["reward"], row["completion"]) for row in rows]
            database.executemany("insert into samples values (?, ?, ?, ?)", cells)
        database.commit()
    return truth


@case
def a_data_set_saved_to_disk(folder: Path) -> Truth:
    """datasets.save_to_disk: an Arrow stream beside its description."""
    truth, table = Truth(clean=True), []
    for *_, rows in sampled(rng("arrow"), truth):
        table += rows
    (folder / "log").mkdir()
    pl.DataFrame(table).write_ipc_stream(folder / "log" / "data-00000-of-00001.arrow")
    (folder / "log" / "state.json").write_text('{"_split": "train"}')
    return truth


def codes(folder: Path, name: str, show: Callable[[list[int]], Any]) -> Truth:
    """Paid by leading codes that agree; nothing is the target, so nobody knows a hit."""
    truth, r = Truth(counted=False, never=("saturated", "format_guard", "groups_mixed")), rng(name)
    for step in range(1, 25):
        for user in range(4):
            target = [r.randrange(64) for _ in range(3)]
            for _ in range(8):
                same = r.choices([0, 1, 2], (0.7, 0.25, 0.05))[0]
                said = target[:same] + [(x + 1 + r.randrange(60)) % 64 for x in target[same:]]
                reward = (-1.0, 0.0, 0.5)[same] if name == "tags" else round(same / 3, 4)
                truth.add((step, user), False, reward)
                jsonl(folder / "log" / "sids.jsonl", [{
                    "step": step, "user_id": f"u{step}_{user}", "recs": str(show(said)),
                    "target": show(target), "reward": reward}])  # fmt: skip
    truth.says = ("holds its target",)
    return truth


@case
def no_tag_is_the_target(folder: Path) -> Truth:
    """The only value above 0 is a first code that agrees."""
    return codes(folder, "tags", lambda x: "<a_{}><b_{}><c_{}>".format(*x))


@case
def no_number_is_the_target(folder: Path) -> Truth:
    """The same with codes as plain numbers."""
    return codes(folder, "numbers", lambda x: "-".join(map(str, x)))


@case
def a_history_of_metrics(folder: Path) -> Truth:
    """MLflow: a row for each name and value."""
    r, rows = rng("mlflow"), []
    for step in range(1, 61):
        said = {"train/reward": 0.3 + 0.004 * step + r.gauss(0, 0.03),
                "train/frac_reward_zero_std": 0.1, "train/kl": 0.01}  # fmt: skip
        rows += [{"run_id": "a", "key": k, "value": v, "step": step} for k, v in said.items()]
    a_table(folder / "log" / "metrics.csv", rows)
    return Truth(clean=True, says=("no rollouts",))


@case
def a_record_that_wandb_alone_reads(folder: Path) -> Truth:
    """run-*.wandb of an offline run."""
    place = folder / "log" / "wandb" / "offline-run-1"
    (place / "files").mkdir(parents=True)
    (place / "run-1.wandb").write_bytes(b":W&B\xee\xbe" + bytes(range(256)) * 40)
    (place / "files" / "requirements.txt").write_text("torch==2.9\n")
    return Truth(refused=("wandb", "export"))
