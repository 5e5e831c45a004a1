"""Scalars as further trainers print them and further trackers export them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

from foreign_logs.cases import Row, Truth, answer_of, batches, case, jsonl, rise, rng
from foreign_logs.scalars import TRL, VERL, truth, values

EASYR1 = {"reward": "reward/overall", "entropy": "actor/entropy_loss", "kl": "actor/kl_loss",
          "clipped": "response_length/clip_ratio", "length": "response_length/mean"}  # fmt: skip
AREAL = {"reward": "ppo_actor/task_reward/avg", "entropy": "ppo_actor/update/entropy/avg",
         "norm": "ppo_actor/update/grad_norm", "length": "ppo_actor/seq_len/avg"}  # fmt: skip


def dying(t: float, _: object) -> Row:
    """An entropy that collapses."""
    return {"entropy": 0.5 * math.exp(-6 * t) + 0.002}


def console(folder: Path, lines: list[str]) -> None:
    (folder / "log").mkdir(parents=True)
    (folder / "log" / "train.log").write_text("\n".join(lines))


@case
def prime_orchestrator_output(folder: Path) -> Truth:
    """In colours; 6 in 10 rollouts are cut off."""
    r = rng("orchestrator")
    console(folder, [
        f"\x1b[2m02:34:{s:02d}\x1b[0m \x1b[32mSUCCESS\x1b[0m Step {s} |   1m 13s | Reward "
        f"{max(0.0, 0.01 + r.gauss(0, 0.004)):.4f} | Trainable {r.randint(3, 9)}/512 (1.2%) | "
        f"Turns 1.0 | Max Off-Policy 2 | Error 0.0% | Truncation {62 + r.gauss(0, 2):.1f}%"
        for s in range(60)])  # fmt: skip
    return truth(must=("truncated",), says=("steps from 0 to 59",))


@case
def prime_trainer_output(folder: Path) -> Truth:
    console(folder, [
        f"02:34:{s:02d} SUCCESS Step {s} | 12s | Loss 0.0010 | Entropy "
        f"{dying(s / 60, 0)['entropy']} | Mismatch KL 0.0004 | Grad. Norm 0.3120 | LR 1.00e-06"
        for s in range(60)])  # fmt: skip
    return truth(must=("entropy_collapse",), never=("rollout_mismatch",))


@case
def easyr1_prints_yaml(folder: Path) -> Truth:
    lines = ["(Runner pid=7) Config", "(Runner pid=7) algorithm:", "(Runner pid=7)   gamma: 1.0"]
    for step, row in values("yaml", EASYR1, dying):
        lines.append(f"(Runner pid=7) Step {step}")
        tree: dict[str, Row] = {}
        for name, value in row.items():
            tree.setdefault(name.partition("/")[0], {})[name.partition("/")[2]] = value
        for outer, inner in tree.items():
            lines += [f"(Runner pid=7) {outer}:", *(f"(Runner pid=7)   {n}: {v}"
                                                     for n, v in inner.items())]  # fmt: skip
    console(folder, lines)
    return truth(must=("entropy_collapse",), says=("5 scalars, steps from 1 to 60",))


@case
def areal_prints_tables(folder: Path) -> Truth:
    lines = []
    for step, row in values("tables", AREAL, dying):
        cells = [f" {name} \u2502 {value:.4e} " for name, value in row.items()]
        lines += [f"StatsLogger INFO: Epoch 1/9 Step {step}/99 Train step {step}/990 done.",
                  "\u2552\u2550\u2564\u2550\u2555", f"\u2502{cells[0]}\u2502{cells[2]}\u2502",
                  f"\u2502{cells[1]}\u2502{cells[3]}\u2502"]  # fmt: skip
    console(folder, lines)
    return truth(must=("entropy_collapse",), says=("4 scalars, steps from 1 to 60",))


@case
def swanlab_table(folder: Path) -> Truth:
    """Columns called `_step` hold the values."""
    rows = values("swanlab", TRL, dying)
    (folder / "log").mkdir(parents=True)
    with (folder / "log" / "metrics.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        runs = [f"qwen-7b-train/{name}" for name in rows[0][1]]
        table.writerow(["step", *(f"{n}_{end}" for n in runs for end in ("step", "timestamp"))])
        table.writerows([s, *(x for v in row.values() for x in (v, 17 + s))] for s, row in rows)
    return truth(must=("entropy_collapse",), says=("SwanLab of run qwen-7b",))


@case
def clearml_scalars(folder: Path) -> Truth:
    """`Task.get_reported_scalars()`: x and y below title and series."""
    rows, found = values("clearml", VERL, dying), dict[str, Row]()
    for name in rows[0][1]:
        title, _, series = name.partition("/")
        x, y = [s for s, _ in rows], [row[name] for _, row in rows]
        found.setdefault(title, {})[series] = {"name": series, "x": x, "y": y}
    (folder / "log").mkdir(parents=True)
    (folder / "log" / "scalars.json").write_text(json.dumps(found))
    return truth(must=("entropy_collapse",))


@case
def neptune_series(folder: Path) -> Truth:
    """A file for each series, named by it."""
    rows = values("neptune", TRL, dying)
    (folder / "log" / "train").mkdir(parents=True)
    for name in rows[0][1]:
        said = "\n".join(f"{s}.0,{row[name]},2026-01-01" for s, row in rows)
        path = folder / "log" / "train" / f"{name.replace('/', '_')}.csv"
        path.write_text(f"step,value,timestamp\n{said}")
    return truth(must=("entropy_collapse",))


@case
def three_scales_side_by_side(folder: Path) -> Truth:
    """verl's own reward functions: 0 and 1; .9 of an answer and .1 of its form; -1 and 1."""
    r, truth = rng("three scales"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r, steps=12, batch=9, mean=rise):
        for hit in hits:
            form = round(0.9 * hit + 0.1 * (r.random() < 0.8), 1)
            score = (float(hit), form, 2.0 * hit - 1)[place % 3]
            truth.add((step, place), hit, score)
            jsonl(folder / "log" / f"{step}.jsonl", [{
                "input": prompt, "output": answer_of(r, answer, hit), "gts": str(answer),
                "score": score, "step": step,
                "data_source": ("gsm8k", "geometry3k", "math_dapo")[place % 3]}])  # fmt: skip
    return truth
