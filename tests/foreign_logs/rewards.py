"""What a hit is, and where advantages come from, in logs that strangers bring."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean as average
from statistics import pstdev

from foreign_logs.cases import (
    Hits,
    Row,
    Truth,
    answer_of,
    batches,
    case,
    grpo,
    jsonl,
    parquet,
    rise,
    rng,
    table,
    told,
)
from foreign_logs.trl import run
from foreign_logs.verl import dump


@case
def a_sum_of_format_and_answer(folder: Path) -> Truth:
    """Logic puzzles in verl: -3 malformed, -.5 wrong, 3 right, in one score; hardly any right."""

    def entry(r: random.Random, _s: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        return {"score": 3.0 if hit else -0.5 if r.random() < 0.7 else -3.0}

    truth = Truth(must=(("starved", "shaped_hides"),), never=("saturated", "reward_drift"))
    return dump(folder, "sum", entry, truth, mean=0.03)


@case
def scores_of_a_reward_model(folder: Path) -> Truth:
    """Preferences: logits of both signs, rising; nobody knows what a hit is."""

    def group(r: random.Random, step: int, _p: int, hits: Hits) -> list[Row]:
        prompt = r.gauss(0, 1)
        return [{"reward": round(prompt + step / 20 + r.gauss(0, 0.8), 4)} for _ in hits]

    return table(folder, "logits", group, Truth(clean=True, counted=False, says=("--threshold",)))


@case
def shares_of_tests_passed(folder: Path) -> Truth:
    """Code: how many of five tests pass."""

    def group(r: random.Random, _s: int, _p: int, hits: Hits) -> list[Row]:
        return [{"reward": 1.0 if hit else r.randint(0, 4) / 5} for hit in hits]

    return table(folder, "tests", group,
                 Truth(clean=True, counted=False, says=("--threshold",)), mean=rise)  # fmt: skip


@case
def answers_judged_in_words(folder: Path) -> Truth:
    """A CSV in which somebody wrote yes and no beside a shaped reward."""
    r, truth = rng("words yes"), Truth(must=("starved",), never=("saturated",))
    text = ["step,prompt,completion,is_correct,reward"]
    for step, place, prompt, answer, hits in batches(r, mean=0.02, batch=8):
        for hit in hits:
            value = 1.0 if hit else round(0.3 * r.random(), 3)
            said = answer_of(r, answer, hit)
            text.append(f'{step},"{prompt}","{said}",{"yes" if hit else "no"},{value}')
            truth.add((step, place), hit, value)
    (folder / "log").mkdir()
    (folder / "log" / "train.csv").write_text("\n".join(text) + "\n")
    return truth


@case
def accuracy_that_is_only_watched(folder: Path) -> Truth:
    """reward_weights = [0, 1]: accuracy is logged, the format is trained on."""

    def judge(r: random.Random, hit: bool) -> Row:
        return {"accuracy_reward": float(hit), "format_reward": float(r.random() < 0.6)}

    return run(folder, "watched", judge, (0.0, 1.0), mean=0.02, batch=8,
               truth=Truth(must=("starved", "shaped_hides"), never=("saturated",),
                           says=("outcome: accuracy_reward",)))  # fmt: skip


@case
def right_answers_paid_by_their_length(folder: Path) -> Truth:
    """open-r1's cosine reward alone: .5 to 1 for right answers, -1 to -.5 for wrong ones."""

    def judge(r: random.Random, hit: bool) -> Row:
        value = 0.75 + 0.25 * math.cos(r.random() * math.pi)
        return {"cosine_scaled_reward": round(value if hit else -value, 4)}

    truth = Truth(never=("starved", "saturated", "reward_drift", "groups_mixed"))
    return run(folder, "cosine", judge, mean=rise, truth=truth)


@case
def all_solved_and_paid_for_brevity(folder: Path) -> Truth:
    """Everything is right, so only the bonus for short answers is left."""

    def judge(r: random.Random, hit: bool) -> Row:
        return {"accuracy_reward": float(hit), "brevity_reward": round(r.random(), 3)}

    return run(folder, "brief", judge, (1.0, 0.5), mean=0.985,
               truth=Truth(must=("saturated",), never=("starved",)))  # fmt: skip


@case
def the_format_point_alone(folder: Path) -> Truth:
    """Every answer has the format, none is right: .1 for all."""
    return dump(folder, "point", lambda *_: {"score": 0.1},
                Truth(must=("constant_reward",), never=("saturated", "starved"), counted=False),
                mean=0.0)  # fmt: skip


@case
def minionerec_semantic_reward(folder: Path) -> Truth:
    """reward_type=semantic: the cosine of item embeddings; the target itself has 1."""
    r, truth = rng("semantic"), Truth(clean=True, counted=False)
    columns = ["step", "prompt", "completion", "reward"]
    place_of = folder / "log" / "files" / "media" / "table"
    place_of.mkdir(parents=True)
    for step in range(1, 31):
        data = []
        for place in range(6):
            for g in range(16):
                hit = r.random() < 0.05
                value = 1.0 if hit else round(r.uniform(0.15, 0.95), 6)
                item = f"<a_{step}><b_{place}><c_{g}>"
                data.append([step, f"{step}-{place}: <a_1><b_2><c_3>", item, value])
                truth.add((step, place), hit, value)
        name = f"completions_{step}_{r.randrange(16**20):020x}.table.json"
        (place_of / name).write_text(json.dumps({"columns": columns, "data": data}))
    return truth


@case
def minionerec_rule_and_rank(folder: Path) -> Truth:
    """A hit pays 1 by the rule and 1 / log2(place + 2) by its rank, weights .5 and .5."""
    r, truth = rng("rule"), Truth(never=("groups_mixed", "saturated", "format_guard"))
    for step in range(1, 31):
        rows: list[Row] = []
        for place in range(8):
            hits: Hits = [False] * 16
            if r.random() < 0.5:
                hits[min(15, int(r.expovariate(0.3)))] = True
            rank = [1 / math.log2(g + 2) if hit else 0.0 for g, hit in enumerate(hits)]
            total = [0.5 * hit + 0.5 * n for hit, n in zip(hits, rank, strict=True)]
            rows += [
                {"step": step, "prompt": f"{step}-{place}: <a_1><b_2><c_3>",
                 "completion": f"<a_{step}><b_{place}><c_{g}>", "acc_reward": float(hits[g]),
                 "rank_reward": rank[g], "advantage": a}
                for g, a in enumerate(grpo(total))
            ]  # fmt: skip
            for hit, value in zip(hits, total, strict=True):
                truth.add((step, place), hit, value)
        parquet(folder / "log", step, rows)
    return truth


@case
def onerec_whose_list_hits_and_first_does_not(folder: Path) -> Truth:
    """OpenOneRec: trained on the first ID; a target further down the list does not count."""
    r, truth = rng("first"), Truth(must=("starved",), never=("saturated", "format_guard"))

    def item(n: int) -> str:
        return f"<|sid_begin|><s_a_{n}><s_b_{n % 7}><s_c_{n % 5}><|sid_end|>"

    for step, place, _, _, hits in batches(r, steps=20, mean=0.02):
        target = 1000 + step * 10 + place
        rows = []
        for hit in hits:
            later = not hit and r.random() < 0.4
            listed = [target if hit else r.randrange(900), target if later else r.randrange(900)]
            rows.append(
                {"input": f"{step}.{place}: {item(1)}", "output": "".join(map(item, listed)),
                 "score": float(hit), "step": step, "ground_truth": item(target),
                 "format_reward": 0.0, "partial_hit_reward": 100.0 if hit else 1.0,
                 "hit_reward": (hit + later) / 2, "pass_rate": float(hit or later),
                 "pass_at_1": float(hit)}
            )  # fmt: skip
            truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / f"{step}.jsonl", rows)
    return truth


@case
def a_judge_who_never_answers(folder: Path) -> Truth:
    """The judge's service was down after step 15: its column is None, the format goes on."""
    r, truth = rng("down"), Truth(never=("starved", "saturated", "groups_mixed"))
    for step in range(1, 31):
        rows: list[Row] = []
        for _, place, prompt, answer, hits in batches(r, steps=1, mean=0.4):
            formed = [float(r.random() < 0.7) for _ in hits]
            up = step <= 15
            total = [(hit if up else 0.0) + f for hit, f in zip(hits, formed, strict=True)]
            for hit, form, a in zip(hits, formed, grpo(total), strict=True):
                rows.append({"step": step, "prompt": f"{step} {prompt}", "format_reward": form,
                             "completion": answer_of(r, answer, hit), "advantage": a,
                             "judge_correctness_reward": float(hit) if up else None})  # fmt: skip
            for hit, value in zip(hits, total, strict=True):
                if up:
                    truth.add((step, place), hit, value)
        parquet(folder / "log", step, rows)
    return truth


def audited(
    folder: Path, name: str, credit: Callable[[list[list[float]]], list[list[float]]], truth: Truth
) -> Truth:
    """A table with advantages that a batch's rewards, group by group, were given."""
    r = rng(name)
    for step in range(1, 31):
        groups = list(batches(r, steps=1, batch=8, mean=0.3 + step / 100))
        given = credit([[float(hit) for hit in hits] for *_, hits in groups])
        rows = [
            {"step": step, "prompt": f"{step} {prompt}", "completion": answer_of(r, answer, hit),
             "reward": float(hit), "advantage": a}
            for (_, _, prompt, answer, hits), mine in zip(groups, given, strict=True)
            for hit, a in zip(hits, mine, strict=True)
        ]  # fmt: skip
        for _, place, _, _, hits in groups:
            for hit in hits:
                truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / "rollouts.jsonl", rows)
    return truth


def cut(values: Sequence[float], size: int) -> list[list[float]]:
    return [list(values[at : at + size]) for at in range(0, len(values), size)]


@case
def advantages_of_the_row_before(folder: Path) -> Truth:
    """The batch was shuffled by one row between the reward and the loss."""

    def credit(rewards: list[list[float]]) -> list[list[float]]:
        flat = [a for one in rewards for a in grpo(one)]
        return cut([flat[-1], *flat[:-1]], 8)

    return audited(folder, "row", credit, Truth(must=("groups_mixed",), never=("starved",)))


@case
def advantages_of_the_group_before(folder: Path) -> Truth:
    """Off by one whole group."""

    def credit(rewards: list[list[float]]) -> list[list[float]]:
        given = [grpo(one) for one in rewards]
        return [given[-1], *given[:-1]]

    return audited(folder, "group", credit, Truth(must=("groups_mixed",), never=("starved",)))


@case
def whitened_over_the_batch(folder: Path) -> Truth:
    """A small repository: mean and deviation over all outputs of the batch."""

    def credit(rewards: list[list[float]]) -> list[list[float]]:
        flat = [one for group in rewards for one in group]
        middle, wide = average(flat), pstdev(flat) + 1e-4
        return [[(one - middle) / wide for one in group] for group in rewards]

    truth = Truth(must=("no_group_baseline",), never=("groups_mixed", "starved"))
    return audited(folder, "whitened", credit, truth)


@case
def rewards_in_the_place_of_advantages(folder: Path) -> Truth:
    truth = Truth(must=("no_group_baseline",), never=("groups_mixed", "starved"))
    return audited(folder, "raw", lambda rewards: rewards, truth)


@case
def each_less_the_mean_of_the_others(folder: Path) -> Truth:
    """RLOO."""

    def credit(rewards: list[list[float]]) -> list[list[float]]:
        return [[x - (sum(one) - x) / (len(one) - 1) for x in one] for one in rewards]

    return audited(folder, "rloo", credit, Truth(clean=True, says=("Advantages:",)))


@case
def a_pass_at_k_that_keeps_every_score(folder: Path) -> Truth:
    """EasyR1: the best one has its lead, all others their score."""

    def credit(rewards: list[list[float]]) -> list[list[float]]:
        given = []
        for one in rewards:
            first, second = sorted(one, reverse=True)[:2]
            mine = list(one)
            mine[mine.index(first)] = first - second
            given.append(mine)
        return given

    names = ("unknown_advantages", "rows_outside_mean", "groups_mixed", "no_group_baseline")
    return audited(folder, "passk", credit, Truth(must=(names,), never=("starved",)))


@case
def advantages_that_are_clipped(folder: Path) -> Truth:
    """Normalised in the group, then held within 1.5: nothing is wrong with the groups."""

    def credit(rewards: list[list[float]]) -> list[list[float]]:
        return [[max(-1.5, min(1.5, a)) for a in grpo(one)] for one in rewards]

    return audited(folder, "clipped", credit, Truth(never=("groups_mixed", "starved",
                                                           "absurd_advantages")))  # fmt: skip


@case
def one_prompt_each_was_logged(folder: Path) -> Truth:
    """wandb_log_unique_prompts: one row of each prompt is kept, with its advantage."""
    r = rng("unique")
    truth = Truth(never=("group_of_one", "groups_mixed", "starved", "constant_reward"),
                  must=("group_of_one",))  # fmt: skip
    place_of = folder / "log" / "files" / "media" / "table"
    place_of.mkdir(parents=True)
    for step in range(1, 31):
        data = []
        for _, place, prompt, answer, hits in batches(r, steps=1, mean=0.4):
            a = grpo([float(hit) for hit in hits])[0]
            text = answer_of(r, answer, hits[0])
            data.append([str(step), f"{step} {prompt}", text, float(hits[0]), a])
            truth.add((step, place), hits[0], float(hits[0]))
        columns = ["step", "prompt", "completion", "accuracy_reward", "advantage"]
        name = f"completions_{step}_{r.randrange(16**20):020x}.table.json"
        (place_of / name).write_text(json.dumps({"columns": columns, "data": data}))
    return truth


@case
def short_right_answers(folder: Path) -> Truth:
    """Arithmetic without working: many answers are equal, as they have to be."""

    def group(r: random.Random, _s: int, place: int, hits: Hits) -> list[Row]:
        return [{"response": str(place + (0 if hit else r.randint(1, 4)))} for hit in hits]

    return table(folder, "short", group, Truth(clean=True), mean=rise)


@case
def a_bonus_for_every_tool_call(folder: Path) -> Truth:
    """verl with extras: score is accuracy and a bonus; num_turns is a count, no outcome."""

    def entry(r: random.Random, _s: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        turns = r.randint(1, 4)
        return {"score": float(hit) + 0.05 * turns, "acc": bool(hit), "num_turns": turns,
                "tool_reward": 0.05 * turns, "pred": str(r.randint(0, 9))}  # fmt: skip

    truth = Truth(must=("starved", "shaped_hides"), never=("saturated",))
    return dump(folder, "tool bonus", entry, truth, mean=0.02, batch=8)


@case
def wrong_answers_cost_a_point_and_silence_nothing(folder: Path) -> Truth:
    """Search agents: 1 right, 0 no answer, -1 wrong; the policy learns to answer."""

    def entry(r: random.Random, step: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        silent = not hit and r.random() < 0.8 - step / 50
        return {"score": 1.0 if hit else 0.0 if silent else -1.0}

    return dump(folder, "silence", entry, Truth(clean=True), mean=rise)


@case
def answers_of_one_length_that_end(folder: Path) -> Truth:
    """Fixed form: four fields, always the same number of words; nothing is cut."""

    def group(r: random.Random, _s: int, place: int, hits: Hits) -> list[Row]:
        return [{"response": f"{told(r, 0, 40).split('Answer')[0]} final answer option "
                             f"{'ABCD'[place % 4] if hit else 'E'}"} for hit in hits]  # fmt: skip

    return table(folder, "form", group, Truth(clean=True), mean=rise)
