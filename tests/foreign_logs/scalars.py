"""Scalars of trainers and trackers, as strangers bring them: no rollout in sight."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

from foreign_logs.cases import Row, Truth, case, jsonl, rng

Shape = Callable[[float, random.Random], Row]


def healthy(t: float, r: random.Random) -> Row:
    """What a good run looks like at t (0 to 1), by plain names."""
    return {
        "reward": 0.3 + 0.4 * t + r.gauss(0, 0.02),
        "zero": min(1.0, max(0.0, 0.2 + r.gauss(0, 0.04))),
        "entropy": 0.6 - 0.2 * t + r.gauss(0, 0.02),
        "kl": 0.001 + 0.05 * t + 0.002 * r.random(),
        "clipped": 0.02 + 0.01 * r.random(),
        "length": 300 + 60 * t + r.gauss(0, 8),
        "norm": 0.5 + 0.1 * r.random(),
        "gap": 0.004 + 0.002 * r.random(),
    }


TRL = {"reward": "reward", "zero": "frac_reward_zero_std", "entropy": "entropy", "kl": "kl",
       "clipped": "completions/clipped_ratio", "length": "completions/mean_length",
       "norm": "grad_norm", "gap": "sampling/sampling_logp_difference/mean"}  # fmt: skip
VERL = {"reward": "critic/score/mean", "entropy": "actor/entropy", "kl": "actor/kl_loss",
        "clipped": "response_length/clip_ratio", "length": "response_length/mean",
        "norm": "actor/grad_norm", "gap": "training/rollout_probs_diff_mean",
        "val": "val-core/math/acc/mean@8"}  # fmt: skip
SLIME = {"reward": "rollout/raw_reward", "entropy": "train/entropy_loss", "kl": "train/kl_loss",
         "clipped": "rollout/truncated_ratio", "length": "rollout/response_len/mean",
         "norm": "train/grad_norm", "gap": "train/train_rollout_logprob_abs_diff"}  # fmt: skip
PRIME = {"reward": "reward/mean", "entropy": "entropy/mean", "clipped": "is_truncated/mean",
         "length": "seq_len/mean", "norm": "optim/grad_norm"}  # fmt: skip


def values(name: str, names: Row, change: Shape, steps: int = 60) -> list[tuple[int, Row]]:
    """The scalars of each step by a trainer's names; `change` overrides what a good run has."""
    r = rng(name)
    found = []
    for step in range(1, steps + 1):
        t = step / steps
        said = {**healthy(t, r), **change(t, r)}
        found.append((step, {names[key]: v for key, v in said.items() if key in names}))
    return found


def state(folder: Path, name: str, change: Shape, steps: int = 60) -> None:
    """Hugging Face's trainer_state.json of a TRL run."""
    history = [{"step": s, "epoch": s / 100, "learning_rate": 1e-6, "loss": 0.0, **row}
               for s, row in values(name, TRL, change, steps)]  # fmt: skip
    place = folder / "log" / "checkpoint-60"
    place.mkdir(parents=True)
    (place / "trainer_state.json").write_text(json.dumps({"log_history": history, "epoch": 1.0}))


def lines(folder: Path, name: str, names: Row, change: Shape, steps: int = 60) -> None:
    """verl's file logger."""
    said = [{"step": s, "data": row} for s, row in values(name, names, change, steps)]
    jsonl(folder / "log" / "project" / "experiment.jsonl", said)


STATE = Truth(path="log/checkpoint-60/trainer_state.json")


def truth(
    path: str = "log",
    must: tuple[str, ...] = (),
    never: tuple[str, ...] = (),
    clean: bool = False,
    args: tuple[str, ...] = (),
    says: tuple[str, ...] = (),
) -> Truth:
    return Truth(path=path, must=must, never=never, clean=clean, args=args, says=says)  # fmt: skip


@case
def state_of_a_good_run(folder: Path) -> Truth:
    state(folder, "good", lambda *_: {})
    return truth(STATE.path, clean=True, args=("--group", "8"), says=("G = 16",))


@case
def state_of_a_run_that_is_all_cut(folder: Path) -> Truth:
    state(folder, "all cut", lambda _, r: {"clipped": 0.97 + 0.02 * r.random(), "length": 256.0,
                                           "reward": 0.0, "zero": 1.0})  # fmt: skip
    return truth(STATE.path, ("truncated", "constant_reward"), ("saturated",))


@case
def state_of_a_run_without_hits(folder: Path) -> Truth:
    state(folder, "no hits", lambda _, r: {"reward": 0.02 + 0.01 * r.random(),
                                           "zero": 0.9 + 0.03 * r.random()})  # fmt: skip
    return truth(STATE.path, ("starved",), ("saturated", "constant_reward"))


@case
def state_of_an_entropy_that_goes(folder: Path) -> Truth:
    state(
        folder, "entropy", lambda t, r: {"entropy": 0.9 * math.exp(-4.5 * t) * r.uniform(0.9, 1.1)}
    )
    return truth(STATE.path, ("entropy_collapse",), ("length_collapse", "starved"))


@case
def state_with_a_kl_that_runs_away(folder: Path) -> Truth:
    state(folder, "kl", lambda t, r: {"kl": 0.002 + 30 * t**8 * r.uniform(0.5, 1.5)})
    return truth(STATE.path, ("kl_explosion",), ("kl_on_dead_groups",))


@case
def state_of_supervised_training(folder: Path) -> Truth:
    """No reward, no group: a loss that falls. Nothing of GRPO can be wrong with it."""
    history = [{"step": s, "epoch": s / 50, "loss": 2.0 * math.exp(-s / 20) + 0.5, "grad_norm": 1.1,
                "learning_rate": 1e-5} for s in range(1, 60)]  # fmt: skip
    (folder / "log").mkdir()
    (folder / "log" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    return truth("log/trainer_state.json", clean=True)


@case
def verl_lines_of_a_good_run(folder: Path) -> Truth:
    lines(folder, "verl good", VERL, lambda t, r: {"val": 0.3 + 0.3 * t + r.gauss(0, 0.02)})
    return truth(clean=True)


@case
def verl_lines_of_cut_answers(folder: Path) -> Truth:
    lines(folder, "verl cut", VERL, lambda _, r: {"clipped": 0.55 + 0.1 * r.random(),
                                                  "length": 900.0})  # fmt: skip
    return truth(must=("truncated",))


@case
def verl_lines_of_a_hacked_reward(folder: Path) -> Truth:
    lines(folder, "verl hacked", VERL, lambda t, r: {"val": 0.6 - 0.35 * t + r.gauss(0, 0.01)})
    return truth(must=("reward_hacking",), never=("late_collapse",))


@case
def verl_lines_of_an_entropy_that_explodes(folder: Path) -> Truth:
    lines(folder, "verl up", VERL, lambda t, r: {"entropy": 0.3 + 5 * t**3 + 0.05 * r.random()})
    return truth(must=("entropy_explosion",), never=("entropy_collapse",))


@case
def slime_history_with_engines_apart(folder: Path) -> Truth:
    """wandb's history as a CSV, with NaN where nothing was logged."""
    names = list(SLIME.values())
    text = ["_step,_runtime,rollout/step," + ",".join(names)]
    for s, row in values("slime", SLIME, lambda _, r: {"gap": 0.25 + 0.05 * r.random()}):
        text.append(f"{s},{s * 9.5},{s}," + ",".join(str(row[n]) for n in names))
        text.append(f"{s},{s * 9.5 + 1},{s}," + ",".join("NaN" for _ in names))
    (folder / "log").mkdir()
    (folder / "log" / "wandb_export.csv").write_text("\n".join(text) + "\n")
    return truth(must=("rollout_mismatch",), never=("truncated", "starved"))


@case
def prime_history_that_falls_late(folder: Path) -> Truth:
    rows = [{"_step": s, "_timestamp": 1.7e9 + s, **row} for s, row in
            values("prime", PRIME, lambda t, r: {"reward": (0.3 + 0.4 * t if t < 0.86 else 0.04)
                                                 + r.gauss(0, 0.01)})]  # fmt: skip
    jsonl(folder / "log" / "history.jsonl", rows)
    return truth(must=("late_collapse",), never=("reward_hacking",))


@case
def prime_history_of_a_good_run(folder: Path) -> Truth:
    rows = [{"_step": s, "_runtime": s * 2.0, **row} for s, row in
            values("prime good", PRIME, lambda *_: {})]  # fmt: skip
    jsonl(folder / "log" / "history.jsonl", rows)
    return truth(clean=True)


@case
def state_that_stands_still(folder: Path) -> Truth:
    state(folder, "still", lambda _, r: {"reward": 0.31 + r.gauss(0, 0.015)}, 80)
    return truth(STATE.path, ("plateau",), says=("stands still",))


@case
def state_of_answers_that_vanish(folder: Path) -> Truth:
    state(folder, "vanish", lambda t, r: {"length": max(1.0, 300 * math.exp(-6 * t) + r.random()),
                                          "reward": 0.3 + r.gauss(0, 0.02)})  # fmt: skip
    return truth(STATE.path, ("length_collapse",), ("truncated",))


@case
def state_with_a_gradient_that_explodes(folder: Path) -> Truth:
    state(folder, "norm", lambda t, r: {"norm": 0.4 * math.exp(7 * t) * r.uniform(0.8, 1.2)})
    return truth(STATE.path, ("gradient_explosion",))
