"""More scalars, by the names that trainers and trackers give them."""

from __future__ import annotations

import json
import math
from pathlib import Path

from foreign_logs.cases import Row, Truth, case, jsonl, rng
from foreign_logs.scalars import STATE, VERL, lines, state, truth, values

EASY = {"reward": "reward/overall", "clipped": "response_length/clip_ratio",
        "length": "response_length/mean", "entropy": "actor/entropy_loss", "kl": "actor/kl_loss",
        "norm": "actor/grad_norm", "accuracy": "reward/accuracy"}  # fmt: skip
MILES = {"reward": "rollout/raw_reward", "bad": "rollout/zero_std/all_zero_ratio",
         "good": "rollout/zero_std/all_one_ratio", "norm": "train/grad_norm",
         "clipped": "rollout/truncated_ratio", "entropy": "train/entropy_loss"}  # fmt: skip


def of_functions(folder: Path, name: str, functions: dict[str, tuple[float, float]]) -> None:
    """trainer_state.json of TRL with a mean per reward function, each from one value to another."""
    r = rng(name)
    history: list[Row] = []
    for step in range(1, 61):
        t = step / 60
        each = {f"rewards/{n}/mean": a + (b - a) * t + r.gauss(0, 0.015)
                for n, (a, b) in functions.items()}  # fmt: skip
        history.append({"step": step, "loss": 0.0, "grad_norm": 0.4, "learning_rate": 1e-6, **each,
                        **{k.replace("/mean", "/std"): 0.4 for k in each}, "epoch": t,
                        "reward": sum(each.values()), "reward_std": 0.4, "entropy": 0.5,
                        "frac_reward_zero_std": 0.2 + r.gauss(0, 0.02), "kl": 0.01 * t,
                        "completions/clipped_ratio": 0.02,
                        "completions/mean_length": 200})  # fmt: skip
    place = folder / "log" / "checkpoint-60"
    place.mkdir(parents=True)
    (place / "trainer_state.json").write_text(json.dumps({"log_history": history, "epoch": 1.0}))


@case
def state_in_which_format_pays_and_accuracy_falls(folder: Path) -> Truth:
    of_functions(folder, "pays", {"accuracy_reward": (0.35, 0.1), "format_reward": (0.2, 0.9)})
    return truth(STATE.path, ("reward_hacking",), ("late_collapse",))


@case
def state_of_several_functions_that_rise(folder: Path) -> Truth:
    """The share of equal groups is that of the sum: no other G follows from it."""
    of_functions(folder, "rise", {"accuracy_reward": (0.2, 0.6), "tag_reward": (0.5, 0.9)})
    return truth(STATE.path, clean=True, args=("--group", "8"), says=("another G",))


@case
def minionerec_state_whose_rank_pays_more(folder: Path) -> Truth:
    of_functions(folder, "rank", {"rule_reward": (0.05, 0.09), "ndcg_rule_reward": (0.03, 0.06)})
    return truth(STATE.path, clean=True)


@case
def easyr1_lines_of_a_hacked_format(folder: Path) -> Truth:
    r = rng("easy")
    said = [{"step": s, **{k.replace("/", "."): v for k, v in row.items()}} for s, row in values(
        "easy", EASY, lambda t, _: {"accuracy": 0.5 - 0.3 * t + r.gauss(0, 0.01)})]  # fmt: skip
    nested: list[Row] = []
    for row in said:
        one: Row = {"step": row.pop("step")}
        for key, value in row.items():
            first, second = key.split(".")
            one.setdefault(first, {})[second] = value
        nested.append(one)
    jsonl(folder / "log" / "experiment_log.jsonl", nested)
    return truth(must=("reward_hacking",))


@case
def miles_whose_groups_have_no_hit(folder: Path) -> Truth:
    rows = [{"_step": s, **row} for s, row in values("miles", MILES, lambda _, r: {
        "reward": 0.03 + 0.01 * r.random(), "bad": 0.85 + 0.05 * r.random(),
        "good": 0.0})]  # fmt: skip
    jsonl(folder / "log" / "history.jsonl", rows)
    return truth(must=("starved",), never=("saturated",))


@case
def state_of_groups_that_are_easy(folder: Path) -> Truth:
    state(folder, "easy groups", lambda _, r: {"reward": 0.96 + 0.01 * r.random(),
                                               "zero": 0.85 + 0.02 * r.random()})  # fmt: skip
    return truth(STATE.path, ("saturated",), ("starved", "constant_reward"))


@case
def state_of_groups_at_both_ends(folder: Path) -> Truth:
    """Half of the prompts are solved, a third hopeless: mean .55, eight in ten groups equal."""
    state(folder, "ends", lambda _, r: {"reward": 0.55 + 0.02 * r.random(),
                                        "zero": 0.8 + 0.02 * r.random()})  # fmt: skip
    return truth(STATE.path, ("diluted_denominator",), ("starved", "saturated"))


@case
def verl_lines_whose_entropy_goes(folder: Path) -> Truth:
    lines(folder, "verl gone", VERL, lambda t, r: {"entropy": 0.8 * math.exp(-5 * t)})
    return truth(must=("entropy_collapse",), never=("entropy_explosion",))


@case
def verl_lines_with_one_spike(folder: Path) -> Truth:
    """One step with a gradient of 300 and a KL of 20; all else is as it should be."""
    lines(folder, "verl spike", VERL, lambda t, r: {
        "norm": 300.0 if 0.965 < t < 0.97 else 0.5 + 0.1 * r.random(),
        "kl": 20.0 if 0.965 < t < 0.97 else 0.01 + 0.02 * t,
        "val": 0.3 + 0.3 * t + r.gauss(0, 0.02)})  # fmt: skip
    return truth(clean=True)


@case
def verl_lines_of_negative_scores(folder: Path) -> Truth:
    """DAPO's scores, from -.9 to -.2: below 0 and rising."""
    lines(folder, "verl below", VERL, lambda t, r: {"reward": -0.9 + 0.7 * t + r.gauss(0, 0.02)})
    return truth(clean=True)


@case
def verl_lines_with_an_evaluation_that_wobbles(folder: Path) -> Truth:
    lines(folder, "wobbles", VERL, lambda _, r: {"val": 0.4 + r.gauss(0, 0.03)})
    return truth(clean=True)


@case
def chart_of_one_reward_that_falls(folder: Path) -> Truth:
    """wandb's CSV of one panel: the step, and the run's name before the metric's."""
    r = rng("chart")
    text = ['"Step","qwen-grpo-7 - train/reward","qwen-grpo-7 - train/reward__MIN",'
            '"qwen-grpo-7 - train/reward__MAX"']  # fmt: skip
    for step in range(1, 81):
        v = (0.2 + 0.5 * step / 80 if step < 70 else 0.05) + r.gauss(0, 0.015)
        text.append(f'"{step}","{v}","{v}","{v}"')
    (folder / "log").mkdir()
    (folder / "log" / "wandb_export_2026-03-01.csv").write_text("\n".join(text) + "\n")
    return truth(must=("late_collapse",), never=("starved",))


@case
def state_with_a_curriculum(folder: Path) -> Truth:
    """The reward falls slowly as prompts get harder."""
    state(folder, "curriculum", lambda t, r: {"reward": 0.6 - 0.15 * t + r.gauss(0, 0.02)})
    return truth(STATE.path, clean=True)


@case
def state_of_thoughts_that_grow(folder: Path) -> Truth:
    state(folder, "thoughts", lambda t, r: {"length": 300 + 900 * t + r.gauss(0, 20)})
    return truth(STATE.path, clean=True)


@case
def state_of_answers_that_get_short(folder: Path) -> Truth:
    """From 300 to 80 tokens, and better all the time."""
    state(folder, "get short", lambda t, r: {"length": 300 - 220 * t + r.gauss(0, 6)})
    return truth(STATE.path, clean=True)
