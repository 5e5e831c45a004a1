"""Logs of TRL's trainer and its kin, as strangers bring them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean as average
from statistics import stdev
from typing import Any

from foreign_logs.cases import (
    WORDS,
    Hits,
    Row,
    Truth,
    answer_of,
    batches,
    case,
    grpo,
    jsonl,
    parquet,
    rng,
    told,
)

Judge = Callable[[random.Random, bool], Row]


def run(
    folder: Path,
    name: str,
    judge: Judge,
    weights: Sequence[float] = (),
    text: Callable[[random.Random, int, bool], Any] = answer_of,
    truth: Truth | None = None,
    **options: Any,
) -> Truth:
    """A TRL log with one column per function of `judge`, their weighted sum credited by GRPO."""
    r, truth = rng(name), truth or Truth()
    held: list[Row] = []
    for step, place, prompt, answer, hits in batches(r, **options):
        rows = [judge(r, hit) for hit in hits]
        use = weights or [1.0] * len(rows[0])
        total = [
            sum(w * (v or 0.0) for w, v in zip(use, row.values(), strict=True)) for row in rows
        ]
        if place == 0 and held:
            parquet(folder / "log", held[0]["step"], held)
            held = []
        for row, hit, reward, advantage in zip(rows, hits, total, grpo(total), strict=True):
            said = {"step": step, "prompt": prompt, "completion": text(r, answer, hit)}
            held.append({**said, **row, "advantage": advantage})
            truth.add((step, place), hit, reward)
    parquet(folder / "log", held[0]["step"], held)
    return truth


@case
def gsm8k_five_functions(folder: Path) -> Truth:
    """The GSM8K demo that everyone copies: correctness pays 2, format little by little."""

    def judge(r: random.Random, hit: bool) -> Row:
        formed = hit or r.random() < 0.6
        return {
            "xmlcount_reward_func": round(0.125 * r.randint(2, 4), 3),
            "soft_format_reward_func": 0.5 * formed,
            "strict_format_reward_func": 0.5 * (formed and r.random() < 0.5),
            "int_reward_func": 0.5 * (hit or r.random() < 0.5),
            "correctness_reward_func": 2.0 * hit,
        }

    return run(folder, "gsm8k", judge, truth=Truth(never=("saturated", "starved", "reward_drift")),
               mean=lambda t: 0.2 + 0.4 * t)  # fmt: skip


@case
def countdown_equation_and_format(folder: Path) -> Truth:
    def judge(r: random.Random, hit: bool) -> Row:
        return {
            "format_reward_func": float(hit or r.random() < 0.7),
            "equation_reward_func": float(hit),
        }

    return run(folder, "countdown", judge, mean=0.03, batch=8,
               truth=Truth(must=("starved",), never=("saturated",)))  # fmt: skip


@case
def weighted_accuracy_and_format(folder: Path) -> Truth:
    """reward_weights = [1, .2]; nothing is solved while the format is right."""

    def judge(r: random.Random, hit: bool) -> Row:
        return {
            "accuracy_reward": float(hit),
            "think_format_reward": float(r.random() < 0.9),
        }

    return run(folder, "weighted", judge, (1.0, 0.2), mean=0.02, batch=8,
               truth=Truth(must=("starved", "shaped_hides"), never=("saturated",),
                           says=("0.2 think_format_reward",)))  # fmt: skip


@case
def logic_puzzles_below_zero(folder: Path) -> Truth:
    """Format 1 or -1, answer 2, -1.5 or -2: a right one is 3."""

    def judge(r: random.Random, hit: bool) -> Row:
        formed = hit or r.random() < 0.7
        return {"format_score": 1.0 if formed else -1.0,
                "answer_score": 2.0 if hit else -1.5 if formed else -2.0}  # fmt: skip

    return run(folder, "logic", judge, truth=Truth(clean=False, never=("starved", "saturated")),
               mean=lambda t: 0.3 + 0.3 * t)  # fmt: skip


@case
def each_reward_normalised_alone(folder: Path) -> Truth:
    """multi_objective_aggregation="normalize_then_sum" of TRL 1.x."""
    r, truth = rng("gdpo"), Truth(never=("groups_mixed", "starved"), says=("normalize_then_sum",))
    for step in range(1, 31):
        held: list[Row] = []
        parts: list[tuple[list[float], list[float]]] = []
        for _, place, prompt, answer, hits in batches(r, steps=1, batch=8):
            style = [float(r.random() < 0.5) for _ in hits]
            right = [float(hit) for hit in hits]
            parts.append((grpo(right), grpo(style)))
            for hit, look in zip(hits, style, strict=True):
                held.append(
                    {"step": step, "prompt": f"{step}: {prompt}",
                     "completion": answer_of(r, answer, hit), "accuracy_reward": float(hit),
                     "style_reward": look}
                )  # fmt: skip
                truth.add((step, place), hit, float(hit) + look)
        sums = [a + b for right, style in parts for a, b in zip(right, style, strict=True)]
        middle, wide = average(sums), stdev(sums)
        rows = [{**row, "advantage": (v - middle) / (wide + 1e-4)}
                for row, v in zip(held, sums, strict=True)]  # fmt: skip
        parquet(folder / "log", step, rows)
    return truth


@case
def rewards_scaled_by_the_batch(folder: Path) -> Truth:
    r, truth = rng("batch"), Truth(clean=True, says=("batch",))
    for step in range(1, 31):
        held: list[Row] = []
        centred: list[float] = []
        for _, place, prompt, answer, hits in batches(r, steps=1, batch=8):
            middle = average([float(hit) for hit in hits])
            for hit in hits:
                centred.append(float(hit) - middle)
                held.append({"step": step, "prompt": f"{step}: {prompt}", "solution": str(answer),
                             "completion": answer_of(r, answer, hit),
                             "accuracy_reward": float(hit)})  # fmt: skip
                truth.add((step, place), hit, float(hit))
        wide = stdev([row["accuracy_reward"] for row in held])
        rows = [{**row, "advantage": v / (wide + 1e-4)}
                for row, v in zip(held, centred, strict=True)]  # fmt: skip
        parquet(folder / "log", step, rows)
    return truth


@case
def cut_in_the_middle_of_a_sentence(folder: Path) -> Truth:
    """max_completion_length cuts three in four; there is no finish reason, only text."""

    def text(r: random.Random, answer: int, hit: bool) -> str:
        if hit:
            return told(r, answer, r.randint(20, 70))
        return " ".join(r.choice(WORDS) for _ in range(r.randint(74, 82)))

    return run(folder, "cut", lambda _, hit: {"accuracy_reward": float(hit)}, text=text, mean=0.15,
               truth=Truth(must=("truncated",), never=("saturated", "groups_mixed")))  # fmt: skip


@case
def cut_at_so_many_words(folder: Path) -> Truth:
    """A limit in words; some wrong answers end by themselves."""

    def text(r: random.Random, answer: int, hit: bool) -> list[Row]:
        whole = told(r, answer if hit else answer + 1, r.randint(60, 190)).split()
        return [{"role": "assistant", "content": " ".join(whole[:120])}]

    r, truth = rng("words"), Truth(must=("truncated",), never=("groups_mixed",))
    for step in range(1, 31):
        held = []
        for _, place, prompt, answer, hits in batches(r, steps=1, mean=0.6):
            texts = [text(r, answer, hit) for hit in hits]
            got = [hit and f"Answer: {answer}" in t[0]["content"] for t, hit in
                   zip(texts, hits, strict=True)]  # fmt: skip
            values = [float(one) for one in got]
            for said, hit, advantage in zip(texts, got, grpo(values), strict=True):
                held.append({"step": step, "prompt": [{"role": "user", "content": prompt}],
                             "completion": said, "accuracy_reward": float(hit),
                             "advantage": advantage})  # fmt: skip
                truth.add((step, place), hit, float(hit))
        parquet(folder / "log", step, held)
    return truth


@case
def everything_cut_and_nothing_solved(folder: Path) -> Truth:
    def text(r: random.Random, *_: Any) -> str:
        return " ".join(r.choice(WORDS) for _ in range(r.randint(190, 200))) + " and"

    return run(folder, "all cut", lambda *_: {"accuracy_reward": 0.0}, text=text, mean=0.0,
               truth=Truth(must=("truncated", "constant_reward")))  # fmt: skip


@case
def code_that_ends_in_a_fence(folder: Path) -> Truth:
    def text(r: random.Random, answer: int, hit: bool) -> str:
        body = "\n".join(
            f"    {r.choice(WORDS)} = {r.randint(0, 99)}" for _ in range(r.randint(5, 30))
        )
        return f"```python\ndef solve():\n{body}\n    return {answer if hit else -1}\n```"

    return run(folder, "code", lambda _, hit: {"code_reward": float(hit)}, text=text,
               truth=Truth(clean=True), mean=lambda t: 0.3 + 0.3 * t)  # fmt: skip


@case
def prose_without_full_stops(folder: Path) -> Truth:
    """Poems: no line ends in a full stop, and good ones are no shorter."""

    def text(r: random.Random, _: int, hit: bool) -> str:
        lines = r.randint(4, 12)
        said = "\n".join(" ".join(r.choice(WORDS) for _ in range(6)) for _ in range(lines))
        return said + (" rose" if hit else " stone")

    return run(folder, "poems", lambda _, hit: {"rhyme_reward": float(hit)}, text=text,
               truth=Truth(clean=True), mean=lambda t: 0.3 + 0.3 * t)  # fmt: skip


@case
def a_judge_that_often_abstains(folder: Path) -> Truth:
    """The accuracy of every third rollout was None, whatever its prompt."""

    def judge(r: random.Random, hit: bool) -> Row:
        return {
            "accuracy_reward": None if r.random() < 0.02 else float(hit),
            "tag_reward": 0.25 * r.randint(2, 4),
        }

    return run(
        folder,
        "abstains",
        judge,
        mean=lambda t: 0.3 + 0.3 * t,
        truth=Truth(never=("starved", "saturated", "groups_mixed"), counted=False),
    )


@case
def no_function_judges_some_prompts(folder: Path) -> Truth:
    """TRL logs None of every function as NaN, and NaN as the advantage."""
    r, truth = rng("nobody"), Truth(clean=True)
    for step in range(1, 13):
        rows = []
        for _, place, prompt, answer, hits in batches(r, steps=1, batch=4, mean=0.45):
            given = grpo([float(hit) for hit in hits])
            for hit, a in zip(hits, given, strict=True):
                judged = place < 3
                said, lost = answer_of(r, answer, hit), float("nan")
                rows.append({"step": step, "prompt": prompt, "completion": said,
                             "accuracy_reward": float(hit) if judged else lost,
                             "advantage": a if judged else lost})  # fmt: skip
                if judged:
                    truth.add((step, place), hit, float(hit))
        parquet(folder / "log", step, rows)
    return truth


@case
def evaluations_over_training_steps(folder: Path) -> Truth:
    """Evaluation twice, written over the training file of its step."""
    r, truth = rng("eval"), Truth(clean=True)
    asked = [f"Held out {n}: what is {n} and {n}?" for n in range(20)]
    for step in range(1, 41):
        rows: list[Row] = []
        if step in (20, 40):
            for place, prompt in enumerate(asked):
                hits = [r.random() < 0.4 for _ in range(4)]
                rows += [
                    {
                        "step": step,
                        "prompt": prompt,
                        "completion": answer_of(r, place, hit),
                        "accuracy_reward": float(hit),
                        "advantage": a,
                    }
                    for hit, a in zip(hits, grpo([float(h) for h in hits]), strict=True)
                ]
        else:
            for _, place, prompt, answer, hits in batches(r, steps=1, mean=0.3 + step / 150):
                values = grpo([float(h) for h in hits])
                rows += [{"step": step, "prompt": f"{step} {prompt}", "accuracy_reward": float(hit),
                          "completion": answer_of(r, answer, hit), "advantage": a}
                         for hit, a in zip(hits, values, strict=True)]  # fmt: skip
                for hit in hits:
                    truth.add((step, place), hit, float(hit))
        parquet(folder / "log", step, rows)
    return truth


@case
def sampling_off(folder: Path) -> Truth:
    """temperature 0: eight equal answers to each prompt."""
    r, truth = (
        rng("greedy"),
        Truth(must=("duplicated_rollouts",), never=("reward_ignores_rollout",)),
    )
    for step in range(1, 31):
        held = []
        for _, place, prompt, answer, hits in batches(r, steps=1):
            said = answer_of(r, answer, hits[0])
            held += [{"step": step, "prompt": f"{step} {prompt}", "completion": said,
                      "accuracy_reward": float(hits[0]), "advantage": 0.0}] * 8  # fmt: skip
            for _ in range(8):
                truth.add((step, place), hits[0], float(hits[0]))
        parquet(folder / "log", step, held)
    return truth


@case
def swift_with_entropy_that_goes(folder: Path) -> Truth:
    """ms-swift 4: lists in a line; the class names of the rewards; entropy per completion."""
    r, truth = rng("swift"), Truth(must=("entropy_collapse",), never=("groups_mixed", "starved"))
    for step in range(1, 41):
        columns: dict[str, list[Any]] = {}
        for _, place, prompt, answer, hits in batches(r, steps=1, batch=4, mean=0.4):
            formed = [float(r.random() < 0.8) for _ in hits]
            total = [float(h) + f for h, f in zip(hits, formed, strict=True)]
            for hit, form, advantage in zip(hits, formed, grpo(total), strict=True):
                row = {"step": str(step), "prompt": f"{step} {prompt}", "Format": form,
                       "completion": answer_of(r, answer, hit), "MathAccuracy": float(hit),
                       "advantages": advantage, "entropy": 1.5 * 0.86**step * r.uniform(0.9, 1.1),
                       "solution": str(answer)}  # fmt: skip
                for name, value in row.items():
                    columns.setdefault(name, []).append(value)
                truth.add((step, place), hit, float(hit) + form)
        jsonl(folder / "log" / "completions.jsonl", [columns])
    return truth


@case
def wandb_table_of_a_policy_that_falls(folder: Path) -> Truth:
    """TRL 0.17 to 0.23 and Unsloth: wandb's tables are all there is; the end is gibberish."""
    r, truth = rng("falls"), Truth(must=("late_collapse",), never=("groups_mixed", "reward_drift"))
    place_of = folder / "log" / "files" / "media" / "table"
    place_of.mkdir(parents=True)
    for step in range(1, 51):
        data = []
        mean = 0.3 + 0.4 * step / 50 if step < 44 else 0.02
        for _, place, prompt, answer, hits in batches(r, steps=1, mean=mean):
            for hit in hits:
                data.append(
                    [str(step), f"{step} {prompt}", answer_of(r, answer, hit), 0.5, float(hit)]
                )
                truth.add((step, place), hit, 0.5 + hit)
        table = {"columns": ["step", "prompt", "completion", "xml_reward", "answer_reward"],
                 "data": data}  # fmt: skip
        name = f"completions_{step}_{r.randrange(16**20):020x}.table.json"
        (place_of / name).write_text(json.dumps(table))
    return truth


@case
def minionerec_ranking_over_beams(folder: Path) -> Truth:
    """Rule reward and NDCG penalty in one column; all beams differ; a CSV export of the table."""
    import math

    r, truth = (
        rng("beams"),
        Truth(never=("groups_mixed", "saturated", "format_guard", "reward_drift")),
    )
    rank = [-1 / math.log2(k + 2) for k in range(16)]
    whole = -sum(rank)
    text = ["step,prompt,completion,reward"]
    for step in range(1, 31):
        for place in range(8):
            hits: Hits = [False] * 16
            if r.random() < 0.5:
                hits[min(15, int(r.expovariate(0.3)))] = True
            for g, hit in enumerate(hits):
                value = 1.0 if hit else rank[g] / whole if any(hits) else 0.0
                item = f"<a_{step}><b_{place}><c_{g}>"
                text.append(f'{step},"{step}-{place}: bought <a_1><b_2><c_3>",{item},{value}')
                truth.add((step, place), hit, value)
    (folder / "log").mkdir(parents=True)
    (folder / "log" / "completions.csv").write_text("\n".join(text) + "\n")
    return truth
