"""Logs of verl and its recipes, as strangers bring them."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foreign_logs.cases import Hits, Row, Truth, answer_of, batches, case, jsonl, rng

Entry = Callable[[random.Random, int, int, int, int, bool], Row]


def dump(
    folder: Path,
    name: str,
    entry: Entry,
    truth: Truth | None = None,
    shuffled: bool = False,
    **options: Any,
) -> Truth:
    """verl's dumps. entry: (chance, step, place, rollout, answer, hit) to what a line has besides;
    its score is the truth's reward."""
    r, truth = rng(name), truth or Truth()
    lines: dict[int, list[Row]] = {}
    for step, place, prompt, answer, hits in batches(r, **options):
        for g, hit in enumerate(hits):
            more = entry(r, step, place, g, answer, hit)
            row = {"input": f"user\n{prompt}\nassistant\n", "output": answer_of(r, answer, hit),
                   "gts": str(answer), "score": float(hit), "step": step, **more}  # fmt: skip
            lines.setdefault(step, []).append(row)
            truth.add((step, place), hit, row["score"])
    for step, rows in lines.items():
        if shuffled:
            r.shuffle(rows)
        jsonl(folder / "log" / f"{step}.jsonl", rows)
    return truth


@case
def booleans_as_text_and_a_format_point(folder: Path) -> Truth:
    def entry(r: random.Random, _s: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        return {"score": 1.0 if hit else 0.1 * (r.random() < 0.8), "acc": str(hit), "pred": "7"}

    return dump(folder, "bools", entry, Truth(must=("starved",), never=("saturated",)), True,
                mean=0.02)  # fmt: skip


@case
def uids_of_the_data_with_underscores(folder: Path) -> Truth:
    """V1: `<sample>_<rollout>_<output>`, and samples have underscores and numbers themselves."""

    def entry(_r: random.Random, step: int, place: int, g: int, *_: Any) -> Row:
        return {"uid": f"gsm8k_train_{step * 10 + place}_{g}_0"}

    return dump(folder, "uids", entry, Truth(clean=True), mean=lambda t: 0.3 + 0.3 * t)


@case
def group_ids_that_end_in_numbers(folder: Path) -> Truth:
    """The id is the group's, though it looks like a rollout's."""

    def entry(_r: random.Random, step: int, place: int, *_: Any) -> Row:
        return {"uid": f"task_{place}_{step}"}

    return dump(folder, "group ids", entry, Truth(clean=True), mean=lambda t: 0.3 + 0.3 * t)


@case
def one_uuid_per_rollout(folder: Path) -> Truth:
    """GRPO became REINFORCE: no two rollouts share an id."""
    r = rng("uuid")

    def entry(*_: Any) -> Row:
        return {"uid": str(uuid.UUID(int=r.getrandbits(128)))}

    truth = dump(folder, "uuid", entry, Truth(must=("group_of_one",), says=("share their prompt",)))
    truth.rows = [(f"{n}", *row[1:]) for n, row in enumerate(truth.rows)]
    return truth


@case
def a_tool_called_now_and_then(folder: Path) -> Truth:
    """V1 of an agent: some rollouts have two or three outputs; the last one is judged."""
    r, truth = rng("tools"), Truth(never=("groups_mixed", "group_of_one", "duplicated_rollouts"))
    for step, place, prompt, answer, hits in batches(r, group=6, mean=lambda t: 0.3 + 0.3 * t):
        rows = []
        for g, hit in enumerate(hits):
            outputs = r.choice((1, 1, 2, 3))
            for n in range(outputs):
                rows.append(
                    {"input": prompt + " <tool_response>3</tool_response>" * n,
                     "output": answer_of(r, answer, hit) if n == outputs - 1 else "<tool_call>",
                     "gts": str(answer), "score": float(hit), "step": step,
                     "uid": f"{step:04x}{place:04x}_{g}_{n}"}
                )  # fmt: skip
            truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / f"{step}.jsonl", rows)
    return truth


@case
def overlong_buffer_without_accuracy(folder: Path) -> Truth:
    """DAPO's score of 1 or -1 less a penalty near the limit; V1 lost `acc`."""

    def entry(r: random.Random, _s: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        long = r.random() < 0.4
        return {"score": (1.0 if hit else -1.0) - (r.uniform(0.05, 0.5) if long else 0.0)}

    return dump(folder, "overlong", entry,
                Truth(never=("starved", "saturated", "groups_mixed", "reward_drift")),
                mean=lambda t: 0.3 + 0.3 * t)  # fmt: skip


@case
def near_the_limit_is_not_cut(folder: Path) -> Truth:
    """DAPO's `overlong` says that an answer ended in the buffer below the limit."""

    def entry(r: random.Random, _s: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        long = r.random() < 0.5
        return {"score": (1.0 if hit else -1.0) - 0.3 * long, "acc": hit, "overlong": long,
                "overlong_reward": -0.3 * long}  # fmt: skip

    return dump(folder, "buffer", entry, Truth(never=("truncated", "starved", "saturated")),
                mean=lambda t: 0.3 + 0.3 * t)  # fmt: skip


@case
def two_data_sources(folder: Path) -> Truth:
    """Mathematics is 0 or 1, code a share of tests, in one batch."""

    def entry(r: random.Random, _s: int, place: int, _g: int, _a: int, hit: bool) -> Row:
        if place % 2:
            return {"score": 1.0 if hit else r.choice((0.0, 0.2, 0.4)), "data_source": "code"}
        return {"data_source": "math"}

    return dump(folder, "sources", entry, Truth(never=("starved", "saturated", "groups_mixed")),
                mean=lambda t: 0.3 + 0.3 * t)  # fmt: skip


@case
def a_group_over_two_steps(folder: Path) -> Truth:
    """Fully asynchronous: the slow rollouts of some groups come a step later."""
    r, truth = rng("late"), Truth(clean=True)
    late: list[Row] = []
    for step in range(1, 31):
        rows, late = late, []
        for _, place, prompt, answer, hits in batches(r, steps=1, mean=0.3 + step / 100):
            for g, hit in enumerate(hits):
                row = {
                    "input": f"{step} {prompt}",
                    "output": answer_of(r, answer, hit),
                    "score": float(hit),
                    "gts": str(answer),
                    "uid": f"{step:03d}-{place}",
                }
                (late if place == 5 and g > 4 and step < 30 else rows).append(row)
                truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / f"{step}.jsonl", [{**row, "step": step} for row in rows])
    return truth


@case
def validation_beside_training(folder: Path) -> Truth:
    """rollout_data_dir and validation_data_dir in one folder."""
    truth = dump(folder, "beside", lambda *_: {}, Truth(clean=True), mean=lambda t: 0.3 + 0.3 * t)
    train = folder / "log" / "rollout_data"
    train.mkdir()
    for path in (folder / "log").glob("*.jsonl"):
        path.rename(train / path.name)
    for step in (0, 10, 20, 30):
        rows = [{"input": f"held out {n}", "output": "Answer: 3", "gts": "3", "score": 0.0,
                 "step": step, "reward": 0.0} for n in range(50)]  # fmt: skip
        jsonl(folder / "log" / "validation_data" / f"{step}.jsonl", rows)
    return truth


@case
def resumed_into_the_same_folder(folder: Path) -> Truth:
    """Two attempts of one run, the second from step 16 on, each in a folder of its own."""
    r, truth = rng("resumed"), Truth(never=("groups_mixed",))
    asked = {(s, p): (prompt, a) for s, p, prompt, a, _ in batches(r, steps=30)}
    for attempt, steps in (("a", range(1, 21)), ("b", range(16, 31))):
        for step in steps:
            rows = []
            for place in range(6):
                prompt, answer = asked[step, place]
                p = r.betavariate(1, 1)
                for _ in range(8):
                    hit = r.random() < p
                    rows.append({"input": prompt, "output": answer_of(r, answer, hit), "step": step,
                                 "gts": str(answer), "score": float(hit)})  # fmt: skip
                    truth.add((attempt, step, place), hit, float(hit))
            jsonl(folder / "log" / f"attempt_{attempt}" / f"{step}.jsonl", rows)
    return truth


@case
def reward_that_reads_the_prompt(folder: Path) -> Truth:
    r = rng("reads")
    level = {(s, p): r.choice((0.2, 0.5, 0.9)) for s in range(1, 31) for p in range(6)}
    return dump(folder, "reads", lambda _r, s, p, *_: {"score": level[s, p]},
                Truth(must=("reward_ignores_rollout",), counted=False,
                      never=("starved", "saturated", "constant_reward")))  # fmt: skip


@case
def everything_solved_from_the_start(folder: Path) -> Truth:
    """An easy set: one in fifty answers is wrong."""
    return dump(
        folder,
        "solved",
        lambda _r, _s, _p, _g, _a, hit: {"acc": int(hit)},
        Truth(must=("saturated",), never=("starved", "constant_reward")),
        mean=0.98,
    )


@case
def three_levels_with_one_above_zero(folder: Path) -> Truth:
    """-1 malformed, 0 wrong, 1 right."""

    def entry(r: random.Random, _s: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        return {"score": 1.0 if hit else -1.0 if r.random() < 0.2 else 0.0}

    return dump(folder, "levels", entry, Truth(clean=True), mean=lambda t: 0.3 + 0.3 * t)


@case
def onerec_with_thoughts_and_wrappers(folder: Path) -> Truth:
    """OpenOneRec: three targets in one text, tags in tags, a thought that was not closed."""
    r, truth = rng("onerec"), Truth(never=("format_guard", "saturated", "groups_mixed"))

    def item(n: int) -> str:
        return f"<|sid_begin|><s_a_{n}><s_b_{n % 7}><s_c_{n % 5}><|sid_end|>"

    for step, place, _, _, hits in batches(r, steps=20, mean=0.2):
        targets = [r.randrange(1000, 9000) for _ in range(3)]
        rows = []
        for hit in hits:
            first = r.choice(targets) if hit else r.randrange(999)
            listed = " ".join(map(item, [first, *(r.randrange(999) for _ in range(2))]))
            closed = "</think>" if r.random() < 0.95 or hit else ""
            rows.append(
                {"input": f"<|im_start|>user {step}.{place}: {item(1)} {item(2)}<|im_end|>",
                 "output": f"<think>\nlikes {item(3)}\n{closed}\n{listed}", "score": float(hit),
                 "step": step, "ground_truth": "".join(map(item, targets)),
                 "format_reward": float(bool(closed)), "partial_hit_reward": 100.0 * hit,
                 "hit_reward": hit / 3, "pass_rate": float(hit), "pass_at_1": float(hit)}
            )  # fmt: skip
            truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / f"{step}.jsonl", rows)
    return truth


@case
def better_reward_worse_answers(folder: Path) -> Truth:
    """The score of a judge rises while the accuracy beside it falls."""

    def entry(r: random.Random, step: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        return {"score": min(1.0, max(0.0, r.gauss(0.2 + step / 60, 0.1))), "acc": hit}

    return dump(folder, "hacked", entry, Truth(must=("reward_hacking",), never=("late_collapse",)),
                mean=lambda t: 0.6 - 0.4 * t)  # fmt: skip


@case
def solved_prompts_given_up(folder: Path) -> Truth:
    """Pass@1 rises, Pass@8 falls: each prompt becomes sure of itself, one way or the other."""
    r, truth = (
        rng("sharp"),
        Truth(must=("pass_at_k_falls",), never=("groups_mixed", "reward_drift")),
    )
    for step in range(1, 41):
        rows: list[Row] = []
        t = step / 40
        for place in range(36):
            mean, wide = 0.3 + 0.15 * t, 4 - 3.8 * t
            p = r.betavariate(mean * wide, (1 - mean) * wide)
            hits: Hits = [r.random() < p for _ in range(8)]
            rows += [
                {
                    "input": f"q {step} {place}",
                    "output": answer_of(r, place, hit),
                    "gts": str(place),
                    "score": float(hit),
                    "step": step,
                }
                for hit in hits
            ]
            for hit in hits:
                truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / f"{step}.jsonl", rows)
    return truth
