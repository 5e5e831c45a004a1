"""Faults of public reports that nobody looked for before, and runs that look like them."""

from __future__ import annotations

import math
import random
from pathlib import Path

from foreign_logs.cases import Truth, batches, case, grpo, jsonl, rng, told
from foreign_logs.scalars import STATE, lines, state, truth, values

SLIME = {"reward": "rollout/raw_reward", "length": "rollout/response_lengths",
         "clipped": "rollout/truncated"}  # fmt: skip
VERL = {"reward": "critic/score/mean", "norm": "actor/grad_norm", "rate": "actor/lr",
        "entropy": "actor/entropy", "length": "response_length/mean"}  # fmt: skip


@case
def slime_metrics_without_a_single_reward(folder: Path) -> Truth:
    """No share of equal groups is logged: the mean says it by never moving."""
    said = values("zero", SLIME, lambda _, r: {"reward": 0.0, "clipped": 0.16 + 0.01 * r.random()})
    jsonl(folder / "log" / "metrics.jsonl", [{"rollout/step": s, **row} for s, row in said])
    return truth(must=("constant_reward",), never=("truncated",), says=("exactly 0",))


@case
def state_of_frozen_weights(folder: Path) -> Truth:
    state(folder, "frozen", lambda *_: {"norm": 0.0, "kl": 0.0})
    return truth(STATE.path, ("no_update",), ("constant_reward",), says=("requires_grad",))


@case
def verl_lines_of_a_schedule_that_ends_too_early(folder: Path) -> Truth:
    lines(folder, "early", VERL, lambda t, _: {"rate": max(0.0, 1e-6 * (1 - 2 * t))})
    return truth(must=("no_update",), says=("the schedule ends too early",))


@case
def verl_output_with_three_digits(folder: Path) -> Truth:
    """A learning rate of 1e-6 is printed as 0.000."""
    said = values("digits", VERL, lambda t, _: {"rate": 1e-6})
    text = "\n".join(
        f"step:{s} - " + " - ".join(f"{name}:{value:.3f}" for name, value in row.items())
        for s, row in said
    )
    (folder / "log").mkdir(parents=True)
    (folder / "log" / "train.log").write_text(text)
    return truth(clean=True)


@case
def state_of_format_without_accuracy(folder: Path) -> Truth:
    def learns_the_form(t: float, _: random.Random) -> dict[str, float]:
        return {"reward": min(1.0, 2 * t), "zero": 0.3}

    state(folder, "form", learns_the_form)
    path = folder / STATE.path
    both = '"rewards/accuracy_reward/mean": 0.0, "rewards/format_reward/mean": 0.51, "epoch"'
    path.write_text(path.read_text().replace('"epoch"', both))
    return truth(STATE.path, ("starved", "silent_function"), says=("the mean accuracy is 0",))


@case
def entropy_that_is_gone_within_the_first_third(folder: Path) -> Truth:
    lines(folder, "fast", VERL,
          lambda t, _: {"entropy": 0.02 + 0.5 * math.exp(-6 * t)})  # fmt: skip
    return truth(must=("entropy_collapse",), says=("first tenth",))


@case
def overlong_answers_without_advantage(folder: Path) -> Truth:
    """Cut answers stay in the mean of their group and are masked."""
    r, truth = rng("overlong"), Truth(clean=True, says=("overlong filtering",))
    for step, place, prompt, answer, hits in batches(r, mean=lambda t: 0.3 + 0.3 * t):
        cut = [r.random() < 0.06 for _ in hits]
        right = [hit and not off for hit, off in zip(hits, cut, strict=True)]
        rows = []
        for one, off, a in zip(right, cut, grpo(list(map(float, right)), 1e-6), strict=True):
            rows.append({"step": step, "prompt": prompt, "reward": float(one), "truncated": off,
                         "completion": told(r, answer if one else -1),
                         "advantage": 0.0 if off else a})  # fmt: skip
            truth.add((step, place), one, float(one))
        jsonl(folder / "log" / "rollouts.jsonl", rows)
    return truth


@case
def rewards_one_row_late(folder: Path) -> Truth:
    """Beside the solution; each rollout has the reward of the one before it."""
    r, truth = rng("late row"), Truth(must=("contradicting_rewards",), never=("saturated",))
    last = 0.0
    for step, place, prompt, answer, hits in batches(r):
        said = [answer if hit else answer + r.randint(1, 3) for hit in hits]
        late, last = [last, *(float(hit) for hit in hits[:-1])], float(hits[-1])
        jsonl(folder / "log" / "completions.jsonl", [
            {"step": step, "prompt": prompt, "completion": f"It is {number}.",
             "solution": str(answer), "accuracy_reward": reward, "advantage": a}
            for number, reward, a in zip(said, late, grpo(late), strict=True)])  # fmt: skip
        for reward in late:
            truth.add((step, place), reward > 0, reward)
    return truth
