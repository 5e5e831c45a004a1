"""Faults as their reporters describe them, and runs that look alarming and are not: scalars and
rollouts, each with one thing to find or none."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Mapping
from pathlib import Path

from foreign_logs.cases import Row, Truth, batches, case, jsonl
from foreign_logs.scalars import STATE, VERL, lines, state, truth, values

NAN = math.nan
NEMO = {"reward": "train/reward", "kl": "train/kl_penalty", "norm": "train/grad_norm",
        "length": "train/mean_gen_tokens_per_sample", "factor": "train/token_mult_prob_error",
        "entropy": "train/approx_entropy"}  # fmt: skip
PRIME = {"reward": "reward/mean", "entropy": "entropy/mean", "clipped": "is_truncated/mean",
         "length": "seq_len/mean", "norm": "optim/grad_norm", "kl": "mismatch_kl/mean"}  # fmt: skip


@case
def state_that_dies_at_a_nan(folder: Path) -> Truth:
    """The process ended at the step whose gradient is NaN: one row says it."""
    state(folder, "dies", lambda t, _: {"norm": NAN} if t == 1 else {})
    return truth(STATE.path, ("not_finite",), clean=True, says=("from step 60 on",))


@case
def state_that_dies_soon_after_a_nan(folder: Path) -> Truth:
    """Four rows of 400: less than a tenth of the run."""
    state(folder, "soon", lambda t, _: {"norm": NAN, "kl": NAN} if t > 0.99 else {}, 400)
    return truth(STATE.path, ("not_finite",), says=("from step 397 on",))


@case
def state_of_nans_from_the_first_step(folder: Path) -> Truth:
    state(folder, "never", lambda *_: {"norm": NAN, "kl": NAN, "zero": 1.0, "reward": 0.0})
    return truth(STATE.path, ("not_finite",), says=("in all 60 logged steps",))


@case
def state_whose_kl_is_never_a_number(folder: Path) -> Truth:
    state(folder, "no kl", lambda *_: {"kl": NAN})
    return truth(STATE.path, ("not_finite",), clean=True, says=("it is only not measured",))


@case
def state_with_steps_that_the_scaler_skipped(folder: Path) -> Truth:
    state(folder, "skipped", lambda t, _: {"norm": math.inf} if round(60 * t) in (1, 2, 31) else {})
    return truth(STATE.path, never=("not_finite",), clean=True)


@case
def state_of_rewards_that_only_groups_have(folder: Path) -> Truth:
    """The reward's spread over the batch is large, and nothing inside a group."""
    state(folder, "groups", lambda _, r: {"zero": 1.0, "reward": r.choice((-3.0, -1.0, 1.0, 3.0))})
    return truth(STATE.path, ("reward_ignores_rollout",), ("constant_reward", "starved"))


@case
def state_that_runs_into_the_limit_at_the_end(folder: Path) -> Truth:
    state(folder, "limit", lambda t, r: {"clipped": 0.02 + 0.45 * (t > 0.85) + 0.02 * r.random()})
    return truth(STATE.path, ("truncated",), says=("in the last tenth, 4",))


@case
def nemo_history_of_engines_that_agree(folder: Path) -> Truth:
    """NeMo-RL's error is a factor: 1.01 is a good run."""
    said = values("agree", NEMO, lambda _, r: {"factor": 1.01 + 0.01 * r.random()})
    rows = [{"_step": s, **row} for s, row in said]
    jsonl(folder / "log" / "history.jsonl", rows)
    return truth(never=("rollout_mismatch",), clean=True)


@case
def nemo_history_of_engines_apart(folder: Path) -> Truth:
    said = values("apart", NEMO, lambda t, r: {"factor": 1.01 + 0.4 * t * t + 0.01 * r.random()})
    rows = [{"_step": s, **row} for s, row in said]
    jsonl(folder / "log" / "history.jsonl", rows)
    return truth(must=("rollout_mismatch",), says=("a factor of",))


@case
def prime_metrics_whose_mismatch_climbs(folder: Path) -> Truth:
    """Nothing but the KL between both engines says it; one batch is far off, as an estimate is."""

    def climbs(t: float, r: random.Random) -> Row:
        return {"kl": 0.001 + 0.3 * t * t + 900 * (round(60 * t) == 50)}

    rows = [{"step": s, **row} for s, row in values("climbs", PRIME, climbs)]
    jsonl(folder / "log" / "metrics.jsonl", rows)
    return truth(must=("rollout_mismatch",), never=("kl_explosion",))


@case
def prime_metrics_with_one_batch_far_off(folder: Path) -> Truth:
    def off(t: float, _: random.Random) -> Row:
        return {"kl": 0.0015 + 900 * (round(60 * t) == 50)}

    rows = [{"step": s, **row} for s, row in values("one batch", PRIME, off)]
    jsonl(folder / "log" / "metrics.jsonl", rows)
    return truth(never=("rollout_mismatch", "kl_explosion"), clean=True)


@case
def verl_lines_of_engines_that_part(folder: Path) -> Truth:
    names = {**VERL, "alike": "training/rollout_actor_probs_pearson_corr"}

    def part(t: float, r: random.Random) -> Row:
        return {"gap": 0.006 + 0.002 * r.random(), "alike": 0.998 - 0.4 * t * t}

    lines(folder, "part", names, part)
    return truth(must=("rollout_mismatch",), says=("correlate by",))


def evaluated(folder: Path, name: str, scores: Mapping[int, float]) -> None:
    """verl's lines of a good run with an evaluation at some steps."""
    said = values(name, VERL, lambda *_: {})
    key = "val-core/aime24/acc/mean@4"
    rows = [
        {"step": s, "data": {**row, **({key: scores[s]} if s in scores else {})}} for s, row in said
    ]
    jsonl(folder / "log" / "run.jsonl", rows)


@case
def verl_lines_with_few_noisy_evaluations(folder: Path) -> Truth:
    """Ten evaluations around one level, the last three below the first three by chance."""
    scores = (0.27, 0.28, 0.265, 0.21, 0.22, 0.3, 0.31, 0.245, 0.23, 0.225)
    evaluated(folder, "noisy", dict(zip(range(6, 61, 6), scores, strict=True)))
    return truth(never=("reward_hacking",), clean=True)


@case
def verl_lines_with_few_evaluations_that_fall(folder: Path) -> Truth:
    evaluated(folder, "falls", {s: 0.31 - 0.002 * s for s in range(6, 61, 6)})
    return truth(must=("reward_hacking",))


@case
def advantages_of_groups_that_are_three_rows_off(folder: Path) -> Truth:
    """rewards.view(-1, G) on a batch that lost its first three rows to its end."""
    r, rows = random.Random(8), []
    for step in range(20):
        batch = [
            (place, float(hit)) for _, place, _, _, hits in batches(r, steps=1) for hit in hits
        ]
        rewards = [reward for _, reward in batch]
        moved = rewards[3:] + rewards[:3]
        means = [sum(moved[at : at + 8]) / 8 for at in range(0, len(moved), 8)]
        given = [reward - means[at // 8] for at, reward in enumerate(moved)]
        given = given[-3:] + given[:-3]
        rows += [{"step": step, "prompt": f"Sum {step} {place}", "completion": f"It is {at}.",
                  "reward": reward, "advantage": mine}
                 for at, ((place, reward), mine) in enumerate(
                     zip(batch, given, strict=True))]  # fmt: skip
    jsonl(folder / "log" / "rollouts.jsonl", rows)
    return Truth(must=("groups_mixed",), never=("rows_outside_mean",))


@case
def advantages_of_half_a_group(folder: Path) -> Truth:
    """Eight were sampled, and the trainer was told of four."""
    r, rows = random.Random(9), []
    for step in range(12):
        for _, place, _, _, hits in batches(r, steps=1):
            means = [sum(hits[:4]) / 4, sum(hits[4:]) / 4]
            rows += [{"step": step, "prompt": f"Sum {step} {place}", "completion": f"It is {at}.",
                      "reward": float(hit), "advantage": hit - means[at // 4]}
                     for at, hit in enumerate(hits)]  # fmt: skip
    jsonl(folder / "log" / "rollouts.jsonl", rows)
    return Truth(must=("groups_mixed",), says=("every 4 rows in a row",))


@case
def groups_that_become_all_or_nothing(folder: Path) -> Truth:
    """Pass@1 stays where it is and Pass@8 falls: half of the prompts were given up."""
    said, r = Truth(must=("pass_at_k_falls",)), random.Random(9)
    rows = []
    for step in range(30):
        for place in range(6):
            share = 0.35 if step < 15 else float(place < 2)
            hits = [r.random() < share for _ in range(8)]
            said.rows += [((step, place), hit, float(hit)) for hit in hits]
            rows += [{"step": step, "prompt": f"Sum {step} {place}",
                      "completion": f"I think that it is {r.randrange(9)}.",
                      "reward": float(hit)} for hit in hits]  # fmt: skip
    jsonl(folder / "log" / "rollouts.jsonl", rows)
    return said


@case
def rollouts_that_were_rotated(folder: Path) -> Truth:
    """The writer put its file aside twice, once in the middle of a group; the eldest is packed."""
    said, rows = Truth(clean=True), []
    for step, place, prompt, answer, hits in batches(random.Random(6), steps=24):
        said.rows += [((step, place), hit, float(hit)) for hit in hits]
        rows += [{"step": step, "prompt": prompt, "completion": f"I think that it is {answer + g}.",
                  "reward": float(hit)} for g, hit in enumerate(hits)]  # fmt: skip
    log = folder / "log"
    jsonl(log / "rollouts.jsonl.2", rows[:400])
    eldest = log / "rollouts.jsonl.2"
    (log / "rollouts.jsonl.2.gz").write_bytes(gzip.compress(eldest.read_bytes()))
    eldest.unlink()
    jsonl(log / "rollouts.jsonl.1", rows[400:803])
    jsonl(log / "rollouts.jsonl", rows[803:])
    return said


def slime(folder: Path, name: str, hopeless: float) -> None:
    """What slime prints: how many of 32 groups have equal rewards, by the reward, none if 0."""
    r, text = random.Random(name), []
    for step in range(30):
        regimes = [r.random() for _ in range(32)]
        none, every = sum(v < hopeless for v in regimes), sum(v > 0.9 for v in regimes)
        said = {
            "rollout/response_len/mean": 2700.0 + r.gauss(0, 40),
            "rollout/truncated_ratio": 0.02,
        }
        said |= {"rollout/zero_std/count_0.0": none} if none else {}
        said |= {"rollout/zero_std/count_1.0": every} if every else {}
        text += [
            f"(RolloutManager pid=18) [2026-04-15 07:57] rollout.py:1193 - perf {step}: {said}"
        ]
        text += [f"rollout {step}: {{'rollout/raw_reward': {(every + 8) / 64:.3f}}}"]
    (folder / "log").mkdir()
    (folder / "log" / "train.log").write_text("\n".join(text) + "\n")


@case
def slime_counts_of_hopeless_groups(folder: Path) -> Truth:
    slime(folder, "hopeless", 0.7)
    return truth(must=("starved",), never=("saturated",), args=("--prompts", "32", "--group", "8"))


@case
def slime_counts_of_few_dead_groups(folder: Path) -> Truth:
    slime(folder, "few", 0.15)
    return truth(clean=True, args=("--prompts", "32", "--group", "8"))


@case
def slime_counts_of_nobody_knows_how_many(folder: Path) -> Truth:
    slime(folder, "unknown", 0.7)
    return truth(clean=True, says=("--prompts",))


@case
def rollouts_without_a_step(folder: Path) -> Truth:
    """What looks for a trend says that it could not, and wants the step."""
    said = Truth(
        clean=True, says=("step, a number for each batch, over several of them (late_col",)
    )
    rows = []
    for n, (_, place, prompt, answer, hits) in enumerate(batches(random.Random(4), steps=20)):
        said.rows += [((n, place), hit, float(hit)) for hit in hits]
        rows += [{"prompt": f"{prompt} ({n})", "completion": f"I think that it is {answer + g}.",
                  "reward": float(hit)} for g, hit in enumerate(hits)]  # fmt: skip
    (folder / "log").mkdir(parents=True)
    (folder / "log" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return said
