"""The files that trainers would have written of planted rollouts, one builder per format.

Each follows the trainer's own source, named in the module of the format; the texts are made up.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import torch

from planted_logs.rollouts import Rows

Builder = Callable[[Rows, Path], Path]
BUILDERS: dict[str, tuple[str, Builder]] = {}


def builder(form: str) -> Callable[[Builder], Builder]:
    """Register a builder; form: the name of the format that should be recognised."""

    def add(make: Builder) -> Builder:
        BUILDERS[make.__name__] = (form, make)
        return make

    return add


def steps(rows: Rows) -> Iterator[tuple[int, Rows]]:
    for step, part in groupby(rows, key=lambda row: row["step"]):
        yield step, list(part)


def groups(rows: Rows) -> Iterator[Rows]:
    return (list(part) for _, part in groupby(rows, key=lambda row: row["prompt"]))


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.writelines(json.dumps(row, default=str) + "\n" for row in rows)


@builder("trl")
def trl_parquet(rows: Rows, folder: Path) -> Path:
    """TRL 1.16, with a log_extra column of numbers and a function of weight 0."""
    for step, part in steps(rows):
        frame = pl.DataFrame(
            {
                "step": [step] * len(part),
                "prompt": [[{"role": "user", "content": r["prompt"]}] for r in part],
                "completion": [[{"role": "assistant", "content": r["prediction"]}] for r in part],
                "answer_reward": [r["reward"] for r in part],
                "brevity_reward": [float(place % 3) for place in range(len(part))],
                "answer_tokens": [200 + 7 * (place % 5) for place in range(len(part))],
                "advantage": [r["advantage"] for r in part],
            }
        )
        (folder / "completions").mkdir(parents=True, exist_ok=True)
        frame.write_parquet(folder / "completions" / f"completions_{step:05d}.parquet")
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / "trainer_state.json").write_text('{"log_history": []}')
    return folder


@builder("trl")
def trl_wandb_table(rows: Rows, folder: Path) -> Path:
    """TRL 0.17 to 0.27 with report_to=wandb: the step is text."""
    place = folder / "wandb" / "run-1" / "files" / "media" / "table"
    place.mkdir(parents=True)
    for step, part in steps(rows):
        table = {
            "columns": ["step", "prompt", "completion", "answer_reward"],
            "data": [[str(step), r["prompt"], r["prediction"], r["reward"]] for r in part],
        }
        (place / f"completions_{step}_0123abcd.table.json").write_text(json.dumps(table))
    return folder


@builder("trl")
def trl_trackio(rows: Rows, folder: Path) -> Path:
    """trackio's database holds each table as JSON among the metrics."""
    folder.mkdir(exist_ok=True)
    with sqlite3.connect(folder / "project.db") as database:
        database.execute(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, "
            "run_name TEXT, step INTEGER, metrics TEXT)"
        )
        for step, part in steps(rows):
            value = [
                {"step": step, "prompt": r["prompt"], "completion": r["prediction"],
                 "answer_reward": r["reward"], "advantage": r["advantage"]}
                for r in part
            ]  # fmt: skip
            said = {"train/reward": 0.5, "completions": {"_type": "trackio.table", "_value": value}}
            database.execute(
                "INSERT INTO metrics VALUES (NULL, 'a', 't', 'run', ?, ?)", (step, json.dumps(said))
            )
    database.close()
    return folder


@builder("ms-swift")
def ms_swift(rows: Rows, folder: Path) -> Path:
    """ms-swift 4.6 completions.jsonl: columns in a line."""
    for step, part in steps(rows):
        lines(
            folder / "completions.jsonl",
            [
                {
                    "step": [str(step)] * len(part),
                    "prompt": [r["prompt"] for r in part],
                    "completion": [r["prediction"] for r in part],
                    "MyOrm": [r["reward"] for r in part],
                    "advantages": [r["advantage"] for r in part],
                    "entropy": [0.4] * len(part),
                }
            ],
        )
    return folder


@builder("verl")
def verl_v0(rows: Rows, folder: Path) -> Path:
    """verl 0.9.1 ray_trainer.py: json.dumps(default=str) makes a numpy bool a text."""
    for step, part in steps(rows):
        entries = [
            {"input": r["prompt"], "output": r["prediction"], "gts": r["target"],
             "score": 2 * r["reward"] - 1, "step": step, "acc": str(bool(r["reward"])),
             "request_id": str(uuid.UUID(int=place))}
            for place, r in enumerate(part)
        ]  # fmt: skip
        lines(folder / f"{step}.jsonl", entries[::2] + entries[1::2])
    return folder


@builder("verl")
def verl_v1(rows: Rows, folder: Path) -> Path:
    """verl 0.9.1 ppo/v1/trainer_base.py: `<sample>_<rollout>_<output>`, outputs as rows."""
    for step, part in steps(rows):
        entries = []
        for place, group in enumerate(groups(part)):
            sample = f"sample_{step}_{place}"
            for g, r in enumerate(group):
                for output in range(1 + g % 2):
                    last = output == g % 2
                    entries.append(
                        {"input": r["prompt"] + " tool" * output, "output": r["prediction"],
                         "gts": r["target"], "score": r["reward"] if last else 1.0,
                         "step": step, "uid": f"{sample}_{g}_{output}"}
                    )  # fmt: skip
        lines(folder / f"{step}.jsonl", entries)
    return folder


@builder("openonerec")
def openonerec(rows: Rows, folder: Path) -> Path:
    """OpenOneRec a969edc: thought before the IDs, several targets in one text, without thinking in
    every second group."""
    for step, part in steps(rows):
        entries = []
        for place, group in enumerate(groups(part)):
            for r in group:
                thought = "<think>\nlikes <a_1>\n</think>\n" if place % 2 else ""
                said = f"<|sid_begin|>{r['prediction']}<|sid_end|><|sid_begin|><a_9><b_9><c_9>"
                entries.append(
                    {"input": r["prompt"], "output": thought + said, "score": r["reward"],
                     "step": step, "ground_truth": f"<a_8><b_8><c_8>{r['target']}",
                     "format_reward": float(place % 2), "partial_hit_reward": 5.0,
                     "hit_reward": 0.2, "pass_rate": 1.0, "pass_at_1": r["reward"]}
                )  # fmt: skip
        lines(folder / f"{step}.jsonl", entries)
    return folder


@builder("areal")
def areal(rows: Rows, folder: Path) -> Path:
    """AReaL 1.0.4: a folder per version, a file per task; samples end at later versions."""
    for step, part in steps(rows):
        for task, group in enumerate(groups(part)):
            entries = [
                {"task_id": task, "sample_idx": g, "seqlen": 90, "prompt_len": 40,
                 "head_version": step - 1, "tail_version": step + g % 2, "reward": r["reward"],
                 "prompt": r["prompt"], "completion": r["prediction"]}
                for g, r in enumerate(group)
            ]  # fmt: skip
            lines(folder / "rollout" / str(step) / f"{task}.jsonl", entries)
    return folder


@builder("nemo-rl")
def nemo_rl(rows: Rows, folder: Path) -> Path:
    """NeMo-RL main: every value a list of one; the prompt is where the loss mask is 0."""
    for step, part in steps(rows):
        entries = []
        for place, group in enumerate(groups(part)):
            for r in group:
                ids = [1, 2, 500 + step, 700 + place, 9, 9]
                mask = [0, 0, 0, 0, 1, 1]
                entries.append(
                    {"content": [r["prompt"] + r["prediction"]], "rewards": [r["reward"]],
                     "input_lengths": [6], "token_ids": [ids], "token_loss_mask": [mask],
                     "sample_loss_mask": [1.0], "advantages": [[0.0] * 4 + [r["advantage"]] * 2],
                     "generation_logprobs": [[0.0] * 4 + [-0.2, -0.4]],
                     "prev_logprobs": [[0.0] * 4 + [-0.3, -0.4]], "idx": [len(entries)]}
                )  # fmt: skip
        lines(folder / "exp_001" / f"train_data_step{step}.jsonl", entries)
    return folder


@builder("roll")
def roll(rows: Rows, folder: Path) -> Path:
    """ROLL main, `write_to_json_process`."""
    for step, part in steps(rows):
        table = {
            "global_step": [step] * len(part),
            "id": [r["prompt"] for r in part],
            "prompt": [r["prompt"] for r in part],
            "ground_truth": [r["target"] for r in part],
            "domain": [r["task"] for r in part],
            "responses": [r["prediction"] for r in part],
            "scores": [r["reward"] for r in part],
            "sampling_params": ["{}"] * len(part),
        }
        lines(folder / f"rollout_dump_data.step_{step}.jsonl", [table])
    return folder


@builder("roll-agentic")
def roll_agentic(rows: Rows, folder: Path) -> Path:
    """ROLL main, `dump_rollout_trajectories`: trajectories and conversations as JSON text."""
    for step, part in steps(rows):
        told = [{"env_info": {"env_id": g, "group_id": place, "tag": r["task"], "seed": step},
                 "reward_info": {"episode_reward": r["reward"]}}
                for place, mine in enumerate(groups(part)) for g, r in enumerate(mine)]  # fmt: skip
        talks = [[{"role": "user", "content": r["prompt"]},
                  {"role": "assistant", "content": r["prediction"]}] for r in part]  # fmt: skip
        lines(folder / f"rollout_dump_data.step_{step}.jsonl", [{
            "trajectory_data": [*map(json.dumps, told)], "global_step": [step] * len(part),
            "messages": [*map(json.dumps, talks)]}])  # fmt: skip
    return folder


@builder("open-instruct")
def open_instruct(rows: Rows, folder: Path) -> Path:
    """open-instruct main: ids of tokens, the prompt's number within the step."""
    for step, part in steps(rows):
        entries = [
            {"step": step, "sample_idx": g, "prompt_idx": place, "prompt_tokens": [1, step, place],
             "response_tokens": [g, 2, 3], "reward": r["reward"], "advantage": r["advantage"],
             "finish_reason": "stop" if g else "length", "dataset": r["task"],
             "ground_truth": r["target"], "logprobs": [-0.1, -0.2, -0.3]}
            for place, group in enumerate(groups(part))
            for g, r in enumerate(group)
        ]  # fmt: skip
        lines(folder / "run_rollouts_000000.jsonl", entries)
    return folder


@builder("tinker")
def tinker(rows: Rows, folder: Path) -> Path:
    """tinker-cookbook 0.6.1, with an evaluation beside the training."""
    for step, part in steps(rows):
        entries = [
            {"schema_version": 1, "split": "train", "iteration": step, "group_idx": place,
             "traj_idx": g, "tags": [r["task"]], "sampling_client_step": step,
             "total_reward": r["reward"] - 0.1, "final_reward": 0.0, "trajectory_metrics": {},
             "final_ob_len": 20,
             "steps": [{"step_idx": 0, "ob_len": 9, "ac_len": 11, "reward": r["reward"],
                        "episode_done": True, "metrics": {"correct": r["reward"], "format": 1.0},
                        "logs": {}}]}
            for place, group in enumerate(groups(part))
            for g, r in enumerate(group)
        ]  # fmt: skip
        here = folder / f"iteration_{step:06d}"
        lines(here / "train_rollout_summaries.jsonl", entries)
        lines(here / "eval_gsm8k_rollout_summaries.jsonl", entries[:3])
    lines(folder / "metrics.jsonl", [{"step": 1, "env/all/reward/total": 0.5}])
    return folder


@builder("skyrl")
def skyrl(rows: Rows, folder: Path) -> Path:
    """SkyRL 0.3: token rewards, a folder per step."""
    for step, part in steps(rows):
        entries = [
            {"input_prompt": r["prompt"], "output_response": r["prediction"],
             "score": [0.0, 0.0, r["reward"]], "stop_reason": "stop", "env_class": "math",
             "env_extras": {"reward_spec": {"ground_truth": r["target"]}},
             "data_source": r["task"]}
            for r in part
        ]  # fmt: skip
        lines(folder / f"global_step_{step}" / "math.jsonl", entries)
    return folder


@builder("rllm")
def rllm(rows: Rows, folder: Path) -> Path:
    """rLLM main: one indented document per episode."""
    for step, part in steps(rows):
        here = folder / "episodes" / f"train_step_{step}_epoch_0"
        here.mkdir(parents=True)
        for place, group in enumerate(groups(part)):
            for g, r in enumerate(group):
                episode = {
                    "training_step": step,
                    "epoch": 0,
                    "episode_id": f"{place}:{g}",
                    "task": {"question": r["prompt"]},
                    "task_hash": f"{place:08x}",
                    "is_correct": bool(r["reward"]),
                    "termination_reason": "env_done",
                    "metrics": {},
                    "trajectories": [
                        {"name": "solver", "uid": f"{step}-{place}-{g}", "reward": r["reward"],
                         "num_steps": 1, "steps": [{"model_response": r["prediction"]}]}
                    ],
                }  # fmt: skip
                path = here / f"episode_hash{place:08x}_id{place}_{g}.json"
                path.write_text(json.dumps(episode, indent=2) + "\n")
    return folder


@builder("slime")
def slime(rows: Rows, folder: Path) -> Path:
    """slime main: torch.save of dictionaries."""
    folder.mkdir(exist_ok=True)
    for step, part in steps(rows):
        samples = [
            {"group_index": step * 100 + place, "index": g, "prompt": r["prompt"],
             "tokens": torch.tensor([1, 2, 3]), "response": r["prediction"], "response_length": 2,
             "label": r["target"], "reward": {"score": r["reward"], "pred": "x"},
             "loss_mask": [1, 1], "rollout_log_probs": [-0.5, -0.25], "weight_versions": ["3"],
             "status": "truncated" if g == 0 else "completed", "metadata": {}}
            for place, group in enumerate(groups(part))
            for g, r in enumerate(group)
        ]  # fmt: skip
        torch.save({"rollout_id": step, "samples": samples}, folder / f"{step}.pt")
    return folder


@builder("prime-rl")
def prime_rl(rows: Rows, folder: Path) -> Path:
    """prime-rl main with verifiers 0.4 episodes; `effective` holds what was trained on."""
    for step, part in steps(rows):
        episodes = [
            {"id": f"{step}-{place}-{g}", "env": {"id": "gsm8k"},
             "task": {"type": "Task", "data": {"idx": place, "prompt": r["prompt"]},
                      "key": None, "hash": f"h{place}"},
             "group": {"id": f"g{step}-{place}"}, "run": {"work": {"step": step}},
             "traces": [{
                 "task": {"type": "Task", "data": {"prompt": r["prompt"], "answer": r["target"]}},
                 "rewards": {"correct": {"score": r["reward"], "weight": 1.0},
                             "style": {"score": 0.5, "weight": 0.0}, "judge": None},
                 "nodes": [{"parent": None, "message": {"role": "user", "content": "q"}},
                           {"parent": 0, "message": {"role": "assistant",
                                                     "content": r["prediction"]}}],
                 "calls": [{"finish_reason": "stop", "usage": {"completion_tokens": 3}}],
                 "is_completed": True, "stop_condition": None}]}
            for place, group in enumerate(groups(part))
            for g, r in enumerate(group)
        ]  # fmt: skip
        here = folder / "rollouts" / f"step_{step}"
        lines(here / "train" / "all" / "traces.jsonl", episodes)
        lines(here / "train" / "effective" / "traces.jsonl", episodes[:8])
        lines(here / "eval" / "all" / "traces.jsonl", episodes[:3])
    return folder


@builder("verifiers")
def verifiers(rows: Rows, folder: Path) -> Path:
    """verifiers 0.1 results.jsonl, a folder per step."""
    for step, part in steps(rows):
        entries = [
            {"example_id": place, "prompt": [{"role": "user", "content": r["prompt"]}],
             "completion": [{"role": "assistant", "content": r["prediction"]}],
             "answer": r["target"], "task": r["task"], "reward": r["reward"],
             "is_truncated": g == 0, "timing": {"total_ms": 5.0}}
            for place, group in enumerate(groups(part))
            for g, r in enumerate(group)
        ]  # fmt: skip
        lines(folder / f"step_{step}" / "results.jsonl", entries)
    return folder


@builder("generic")
def openrlhf_reward_function(rows: Rows, folder: Path) -> Path:
    """What the documentation tells users of OpenRLHF to log from their reward function."""
    entries = [
        {"step": r["step"], "prompt": r["prompt"], "output": r["prediction"], "reward": r["reward"]}
        for r in rows
    ]
    lines(folder / "rollouts.jsonl", entries)
    return folder
