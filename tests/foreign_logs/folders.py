"""What lies in folders beside rollouts, what trainers print, and rollouts in other shapes."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foreign_logs.cases import Row, Truth, answer_of, batches, case, grpo, jsonl, parquet, rng, told


def curve(seed: str, steps: int, of: Callable[[int, random.Random], Row]) -> list[Row]:
    """One row of scalars per step."""
    r = rng(seed)
    return [{"step": step, **of(step, r)} for step in range(1, steps + 1)]


def rises(step: int, r: random.Random) -> Row:
    """Scalars of a healthy run, as TRL logs them."""
    return {
        "loss": r.gauss(0.002, 0.001),
        "grad_norm": abs(r.gauss(0.4, 0.05)),
        "reward": 0.3 + 0.003 * step + r.gauss(0, 0.03),
        "completions/clipped_ratio": 0.01,
        "completions/mean_length": r.gauss(300, 10),
        "kl": 0.01,
    }


@case
def a_state_alone_in_its_folder(folder: Path) -> Truth:
    """TRL: a checkpoint's folder holds nothing else that anybody reads; one KL of 800."""
    rows = curve("state", 120, rises)
    rows[80]["kl"] = 812.0
    place = folder / "log" / "checkpoint-120"
    place.mkdir(parents=True)
    (place / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
    (place / "args.json").write_text('{"model": "Qwen"}')
    return Truth(clean=True, says=("trainer_state.json",))


@case
def nothing_is_a_number_any_more(folder: Path) -> Truth:
    """Unsloth: loss and gradient are NaN from step 60 on, every answer is one sign again and
    again."""

    def of(step: int, r: random.Random) -> Row:
        gone = {"loss": float("nan"), "grad_norm": float("nan"), "reward": 0.0}
        return {**rises(step, r), **(gone if step >= 60 else {})}

    place = folder / "log"
    place.mkdir()
    (place / "trainer_state.json").write_text(json.dumps({"log_history": curve("nan", 100, of)}))
    return Truth(must=("not_finite", "late_collapse"), never=("saturated",), says=("NaN",))


@case
def megatron_counts_five_of_a_hundred(folder: Path) -> Truth:
    """ms-swift's logging.jsonl: `iteration` is `5/100`; every answer is cut."""

    def of(step: int, r: random.Random) -> Row:
        cut = {"completions/clipped_ratio": 0.97, "reward": 0.01, "frac_reward_zero_std": 0.95}
        return {**rises(step, r), **cut, "iteration": f"{step}/100"}

    rows = [{k: v for k, v in row.items() if k != "step"} for row in curve("five", 60, of)]
    jsonl(folder / "log" / "v1" / "logging.jsonl", rows)
    return Truth(must=("truncated", "starved"), never=("saturated",))


@case
def prime_rates_of_solved_groups(folder: Path) -> Truth:
    """prime-rl's metrics.jsonl: nine in ten groups are solved by all."""

    def of(_: int, r: random.Random) -> Row:
        base = "train/agg/all/solver"
        solved = r.gauss(0.87, 0.01)
        return {f"{base}/reward/mean": 0.93, f"{base}/solved_all": solved,
                f"{base}/solved_none": 0.01, f"{base}/solved_some": 0.99 - solved,
                "train/agg/all/num_output_tokens/mean": 800.0,
                "entropy/all/mean": 0.3}  # fmt: skip

    jsonl(folder / "log" / "metrics.jsonl", curve("solved", 40, of))
    return Truth(must=("saturated",), never=("starved",))


def printed(folder: Path, lines: list[str]) -> None:
    place = folder / "log"
    place.mkdir()
    with gzip.open(place / "train.log.gz", "wt") as stream:
        stream.write("[2026-02-10 11:02:33] setting up\n" + "\n".join(lines))


@case
def a_trainer_prints_dicts(folder: Path) -> Truth:
    """open-r1: dicts between bars of progress; the KL explodes, the accuracy falls to 0."""

    def of(step: int, r: random.Random) -> Row:
        gone = {"rewards/accuracy_reward": 0.0, "reward": 0.0, "kl": 3.0 * step}
        good = {"rewards/accuracy_reward": 0.3 + r.gauss(0, 0.03)}
        return {**rises(step, r), **(gone if step > 70 else good)}

    lines = []
    for row in curve("dicts", 100, of):
        said = {name: value for name, value in row.items() if name != "step"}
        lines += [f" {row['step']}%|##   | 3/9 [00:01<10:00]\r{said}", "UserWarning: {'a': 1}"]
    lines.append("{'train_runtime': 12.0, 'train_loss': 0.1, 'train_steps_per_second': 3.0}")
    printed(folder, lines)
    return Truth(must=("late_collapse", "kl_explosion"), never=("saturated",), says=("to 100,",))


@case
def verl_prints_a_line_a_step(folder: Path) -> Truth:
    """verl below ray, with colours: two in three answers are cut."""

    def of(_: int, r: random.Random) -> Row:
        return {"critic/score/mean": r.gauss(-0.4, 0.05), "critic/score/max": 1.0,
                "actor/entropy": 0.25, "actor/grad_norm": 0.1, "actor/lr": 2e-06,
                "response_length/mean": 2500.0,
                "response_length/clip_ratio": r.gauss(0.62, 0.02)}  # fmt: skip

    lines = []
    for row in curve("line", 50, of):
        said = " - ".join(f"{name}:{value}" for name, value in row.items() if name != "step")
        lines.append(f"\x1b[36m(TaskRunner pid=2)\x1b[0m step:{row['step']} - {said}")
        lines.append("\x1b[36m(WorkerDict pid=3)\x1b[0m INFO 04-10 11:22:31 wake up: 0.9 s - ok")
    printed(folder, lines)
    return Truth(must=("truncated",), never=("saturated",))


@case
def lines_of_rows(folder: Path) -> Truth:
    """ms-swift below ray: a line is a list of rows, with gen_step."""
    r, truth = rng("lists"), Truth(must=("starved",), never=("saturated", "groups_mixed"))
    lines: dict[int, list[Row]] = {}
    for step, place, prompt, answer, hits in batches(r, mean=0.02):
        for hit in hits:
            lines.setdefault(step, []).append(
                {"gen_step": step, "prompt": prompt, "completion": answer_of(r, answer, hit),
                 "reward": float(hit)}
            )  # fmt: skip
            truth.add((step, place), hit, float(hit))
    log = folder / "log"
    log.mkdir()
    text = "\n".join(json.dumps(rows) for rows in lines.values())
    (log / "completions.jsonl").write_text(text)
    return truth


@case
def conversations_in_a_hidden_folder(folder: Path) -> Truth:
    """ART: a group a line, messages and choices, below `.art`."""
    r, truth = rng("art"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r, mean=lambda t: 0.3 + 0.3 * t):
        made: list[dict[str, Any]] = []
        for hit in hits:
            said = {"message": {"role": "assistant", "content": answer_of(r, answer, hit)}}
            talk = [{"role": "system", "content": "Help."}, {"role": "user", "content": prompt}]
            made.append({"reward": float(hit), "metrics": {}, "messages_and_choices": [*talk, said],
                         "logs": []})  # fmt: skip
            truth.add((step, place), hit, float(hit))
        at = folder / "log" / ".art" / "models" / "train" / f"{step:04d}.jsonl"
        jsonl(at, [{"trajectories": made}])
    return truth


@case
def groups_of_tokens_and_messages(folder: Path) -> Truth:
    """Atropos: lists of a group's tokens, scores and conversations; no step, no prompt."""
    r, truth = rng("atropos"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r):
        if len(set(hits)) == 1:
            continue
        talks = [
            [{"role": "user", "content": prompt},
             {"role": "assistant", "content": answer_of(r, answer, hit)}]
            for hit in hits
        ]  # fmt: skip
        row = {"tokens": [[step, place, 3]] * 8, "masks": [[-100, 1, 1]] * 8, "messages": talks,
               "scores": [2.0 * hit - 1 for hit in hits], "advantages": None}  # fmt: skip
        jsonl(folder / "log" / "groups.jsonl", [row])
        for hit in hits:
            truth.add((step, place), hit, 2.0 * hit - 1)
    return truth


@case
def a_reward_of_parts(folder: Path) -> Truth:
    """By hand: the reward is an object; two in five answers are cut."""
    r, truth = rng("parts"), Truth(must=("truncated",), never=("saturated", "groups_mixed"))
    for step, place, prompt, answer, hits in batches(r, mean=0.5):
        for sampled in hits:
            cut = r.random() < 0.4
            hit = sampled and not cut
            reward = hit + 0.2 * (not cut)
            row = {"iter": step, "query_id": f"{step}-{place}", "prompt": prompt,
                   "response": told(r, answer, 60)[:-30] if cut else answer_of(r, answer, hit),
                   "reward": {"total": reward, "correctness": float(hit), "format": reward - hit},
                   "finish_reason": "length" if cut else "stop"}  # fmt: skip
            jsonl(folder / "log" / "rollouts.jsonl", [row])
            truth.add((step, place), hit, reward)
    return truth


@case
def four_eight_or_sixteen(folder: Path) -> Truth:
    """Adaptive budgets: a group's size goes by its difficulty, ids are logged."""
    r, truth = rng("budget"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r, group=16):
        rewards = [float(hit) for hit in hits[: r.choice((4, 8, 8, 16))]]
        advantages = grpo(rewards)
        rows = [
            {"step": step, "group_id": f"{step}-{place}", "prompt": prompt,
             "completion": answer_of(r, answer, bool(reward)), "reward": reward, "advantage": a}
            for reward, a in zip(rewards, advantages, strict=True)
        ]  # fmt: skip
        jsonl(folder / "log" / "rollouts.jsonl", rows)
        for reward in rewards:
            truth.add((step, place), bool(reward), reward)
    return truth


@case
def a_verdict_beside_a_total(folder: Path) -> Truth:
    """By hand: a total of many values, its parts beside it, one of which says what is right."""
    r, truth = rng("verdict"), Truth(clean=True, says=("outcome: r_correct",))
    for step, place, prompt, answer, hits in batches(r, mean=lambda t: 0.3 + 0.3 * t):
        for n, hit in enumerate(hits):
            length = round(r.uniform(0.3, 1), 3)
            row = {"iter": step, "question": prompt, "sample_id": n, "r_correct": int(hit),
                   "response": answer_of(r, answer, hit), "r_length": length,
                   "final_reward": 0.7 * hit + 0.3 * length}  # fmt: skip
            jsonl(folder / "log" / "rollouts.jsonl", [row])
            truth.add((step, place), hit, 0.7 * hit + 0.3 * length)
    return truth


@case
def a_sandbox_that_is_down(folder: Path) -> Truth:
    """ROLL-like: one domain's rewards are all 0, the others are fine."""
    r = rng("sandbox")
    truth = Truth(must=("silent_task",), never=("constant_reward", "starved"), says=("code",))
    for step, place, prompt, answer, hits in batches(r):
        task = ("math", "code", "judge")[place % 3]
        for sampled in hits:
            hit = sampled and task != "code"
            row = {"step": step, "input": prompt, "output": answer_of(r, answer, sampled),
                   "score": float(hit), "data_source": task, "gts": str(answer)}  # fmt: skip
            jsonl(folder / "log" / f"{step}.jsonl", [row])
            truth.add((step, place), hit, float(hit))
    return truth


@case
def prompts_that_come_twice(folder: Path) -> Truth:
    """verl without ids: some prompts are in a batch twice, one after the other or apart."""
    r, truth = rng("twice"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r, batch=8):
        same = step % 5 == 0 and place in (3, 6)
        words = f"Case {step}: the same again" if same else prompt
        for hit in hits:
            row = {"input": words, "output": answer_of(r, answer, hit), "score": float(hit),
                   "step": step, "gts": "7" if same else str(answer)}  # fmt: skip
            jsonl(folder / "log" / f"{step}.jsonl", [row])
            truth.add((step, place), hit, float(hit))
    return truth


@case
def thoughts_without_an_end(folder: Path) -> Truth:
    """The tag is opened and never closed; answers end, and many are right."""
    r, truth = rng("thoughts"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r):
        rewards = [float(hit) for hit in hits]
        rows = [
            {"step": step, "prompt": prompt, "accuracy_reward": reward, "advantage": a,
             "completion": f"<think>\n{answer_of(r, answer, bool(reward))}."}
            for reward, a in zip(rewards, grpo(rewards), strict=True)
        ]  # fmt: skip
        parquet(folder / "log", step * 100 + place, rows)
        for reward in rewards:
            truth.add((step, place), bool(reward), reward)
    return truth
