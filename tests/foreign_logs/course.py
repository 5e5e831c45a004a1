"""What happens over training, in logs that strangers bring."""

from __future__ import annotations

import random
from pathlib import Path

from foreign_logs.cases import (
    WORDS,
    Hits,
    Row,
    Truth,
    answer_of,
    batches,
    case,
    jsonl,
    rise,
    rng,
    table,
)
from foreign_logs.trl import run
from foreign_logs.verl import dump


@case
def entropy_that_runs_away(folder: Path) -> Truth:
    def group(r: random.Random, step: int, _p: int, hits: Hits) -> list[Row]:
        return [{"entropy": 0.4 + 3 * (step / 30) ** 4 + 0.05 * r.random()} for _ in hits]

    return table(folder, "away", group, Truth(must=("entropy_explosion",), never=("starved",)))


@case
def entropy_that_settles(folder: Path) -> Truth:
    """It falls by half at the start and stays there: what a run that learns looks like."""

    def group(r: random.Random, step: int, _p: int, hits: Hits) -> list[Row]:
        return [{"entropy": 0.5 + 0.5 * 0.8**step + 0.05 * r.random()} for _ in hits]

    return table(folder, "settles", group, Truth(clean=True), mean=rise)


@case
def one_spike_of_kl(folder: Path) -> Truth:
    """A single step with a KL of 40; before and after it is .05."""

    def group(r: random.Random, step: int, _p: int, hits: Hits) -> list[Row]:
        return [{"kl": 40.0 if step == 28 else 0.05 + 0.01 * r.random()} for _ in hits]

    return table(folder, "spike", group, Truth(clean=True), mean=rise)


@case
def answers_that_grow_with_the_score(folder: Path) -> Truth:
    """What long reasoning looks like when it works."""

    def group(r: random.Random, step: int, _p: int, hits: Hits) -> list[Row]:
        return [{"completion_tokens": int(r.gauss(150 + 25 * step, 30))} for _ in hits]

    return table(folder, "grow", group, Truth(clean=True), mean=lambda t: 0.2 + 0.5 * t)


@case
def answers_that_get_to_the_point(folder: Path) -> Truth:
    """Length falls from 600 to 150 tokens while accuracy rises."""

    def group(r: random.Random, step: int, _p: int, hits: Hits) -> list[Row]:
        return [{"completion_tokens": max(20, int(r.gauss(620 - 16 * step, 25)))} for _ in hits]

    return table(folder, "point", group, Truth(clean=True), mean=lambda t: 0.2 + 0.5 * t)


@case
def answers_that_vanish(folder: Path) -> Truth:
    """The text itself becomes a word; nothing else is logged."""
    r, truth = rng("vanishing"), Truth(must=("length_collapse",), never=("groups_mixed",))
    for step, place, prompt, answer, hits in batches(r, steps=36, mean=0.3):
        rows = []
        for hit in hits:
            words = max(2, int(60 * 0.88**step * r.uniform(0.8, 1.2)))
            said = " ".join(r.choice(WORDS) for _ in range(words)) + f" {answer if hit else -1}."
            rows.append({"step": step, "prompt": prompt, "completion": said, "reward": float(hit)})
            truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / "rollouts.jsonl", rows)
    return truth


@case
def harder_prompts_later(folder: Path) -> Truth:
    """A curriculum: the score falls from .65 to .45 because prompts get harder."""
    return dump(folder, "harder", lambda *_: {},
                Truth(clean=True), mean=lambda t: 0.65 - 0.2 * t)  # fmt: skip


@case
def a_few_answers_at_the_limit(folder: Path) -> Truth:
    """One in thirty is cut: not worth a word."""

    def group(r: random.Random, _s: int, _p: int, hits: Hits) -> list[Row]:
        return [{"finish_reason": "length" if r.random() < 0.03 else "stop"} for _ in hits]

    return table(folder, "few", group, Truth(clean=True), mean=rise)


@case
def answers_in_a_box(folder: Path) -> Truth:
    """LaTeX: answers end in a brace, some in a formula; all end."""

    def group(r: random.Random, _s: int, place: int, hits: Hits) -> list[Row]:
        return [{"response": " ".join(r.choice(WORDS) for _ in range(r.randint(15, 60)))
                 + f" {r.random()} so $$\\boxed{{{place if hit else -1}}}$$"}
                for hit in hits]  # fmt: skip

    return table(folder, "box", group, Truth(clean=True), mean=rise)


@case
def titles_of_items(folder: Path) -> Truth:
    """A recommender that writes titles: they end in a letter, and the run is starved, not cut."""

    def group(r: random.Random, step: int, place: int, hits: Hits) -> list[Row]:
        made = ["Office", "Steel", "Heavy", "Duty", "Paper", "Printer", "Blue", "Black", "Set"]
        return [{"response": " ".join(r.choice(made) for _ in range(r.randint(9, 16))) + " Pack",
                 "target": f"Target {step} {place}"} for _ in hits]  # fmt: skip

    return table(folder, "titles", group,
                 Truth(must=("starved",), never=("truncated", "format_guard")),
                 mean=0.015)  # fmt: skip


@case
def two_workers_with_one_seed(folder: Path) -> Truth:
    """Every answer comes twice."""
    r, truth = rng("seed"), Truth(must=("duplicated_rollouts",), never=("groups_mixed",))
    for step, place, prompt, answer, hits in batches(r, group=4, mean=0.4):
        rows = []
        for hit in hits:
            text = answer_of(r, answer, hit)
            rows += [{"input": prompt, "output": text, "gts": str(answer), "score": float(hit),
                      "step": step}] * 2  # fmt: skip
            truth.rows += [(f"{step}.{place}", hit, float(hit))] * 2
        jsonl(folder / "log" / f"{step}.jsonl", rows)
    return truth


@case
def words_that_run_in_circles(folder: Path) -> Truth:
    """From step 20 on answers repeat a phrase to the end."""

    def group(r: random.Random, step: int, _p: int, hits: Hits) -> list[Row]:
        if step < 20:
            return [{} for _ in hits]
        phrase = " ".join(r.choice(WORDS) for _ in range(5))
        return [
            {"response": f"{phrase} " * r.randint(10, 30) + str(r.random()) + "."} for _ in hits
        ]

    return table(folder, "circles", group, Truth(must=("repetition",), never=("groups_mixed",)))


@case
def a_run_that_stands_still(folder: Path) -> Truth:
    return dump(folder, "still rollouts", lambda *_: {},
                Truth(must=("plateau",), never=("starved",)), steps=60, batch=8, mean=0.35,
                spread=20.0)  # fmt: skip


@case
def a_judge_and_an_evaluation_that_agree(folder: Path) -> Truth:
    """The shaped reward rises fast, the outcome slowly: no hacking."""

    def entry(r: random.Random, step: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        return {"score": 0.5 * hit + min(0.5, step / 60) * r.uniform(0.8, 1.0), "acc": hit}

    return dump(folder, "agree", entry, Truth(never=("reward_hacking", "starved", "late_collapse")),
                mean=lambda t: 0.35 + 0.1 * t)  # fmt: skip


@case
def gibberish_from_the_middle_on(folder: Path) -> Truth:
    """Weights broke at step 26 of 30 in a TRL run that had learnt."""

    def judge(_: random.Random, hit: bool) -> Row:
        return {"accuracy_reward": float(hit)}

    truth = Truth(must=("late_collapse",), never=("groups_mixed", "reward_drift"))
    return run(folder, "gibberish", judge, truth=truth, steps=50,
               mean=lambda t: 0.4 + 0.3 * t if t < 0.85 else 0.0)  # fmt: skip


@case
def a_reward_model_that_moves(folder: Path) -> Truth:
    """Its scores are ten times as wide at the end; the answers are as they were."""

    def group(r: random.Random, step: int, _p: int, hits: Hits) -> list[Row]:
        return [{"reward": r.gauss(0, 1) * (1 + step / 3)} for _ in hits]

    truth = Truth(must=("reward_drift",), counted=False, never=("starved", "saturated"))
    return table(folder, "moves", group, truth)
