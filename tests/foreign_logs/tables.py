"""Tables that people write or export by hand: other names, other separators, other scales."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

import polars as pl

from foreign_logs.cases import Hits, Row, Truth, answer_of, batches, case, jsonl, rise, rng
from foreign_logs.verl import dump


def rows_of(name: str, truth: Truth, **options: object) -> list[Row]:
    """Rollouts with plain names."""
    r = rng(name)
    rows = []
    for step, place, prompt, answer, hits in batches(r, **{"mean": rise, **options}):  # type: ignore[arg-type]
        for hit in hits:
            rows.append({"step": step, "prompt": prompt, "completion": answer_of(r, answer, hit),
                         "reward": float(hit), "place": place})  # fmt: skip
            truth.add((step, place), hit, float(hit))
    return rows


@case
def separated_by_tabs(folder: Path) -> Truth:
    truth = Truth(clean=True, path="log.tsv")
    pl.DataFrame(rows_of("tabs", truth)).write_csv(folder / "log.tsv", separator="\t")
    return truth


@case
def separated_by_semicolons(folder: Path) -> Truth:
    """A spreadsheet of a country that writes commas in numbers."""
    truth = Truth(clean=True, path="log.csv")
    with (folder / "log.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=";")
        writer.writerow(["step", "prompt", "completion", "reward"])
        for row in rows_of("semicolons", truth):
            reward = str(row["reward"]).replace(".", ",")
            writer.writerow([row["step"], row["prompt"], row["completion"], reward])
    return truth


@case
def titles_with_spaces(folder: Path) -> Truth:
    """A spreadsheet's headings."""
    truth = Truth(clean=True, path="log.csv")
    table = pl.DataFrame(rows_of("titles", truth)).drop("place")
    names = {"step": "Global Step", "prompt": "Prompt", "completion": "Response",
             "reward": "Total Reward"}  # fmt: skip
    table.rename(names).write_csv(folder / "log.csv")
    return truth


@case
def names_in_camel_case(folder: Path) -> Truth:
    truth = Truth(clean=True, path="log.jsonl")
    rows = [{"trainingStep": row["step"], "groupId": f"{row['step']}/{row['place']}",
             "promptText": row["prompt"], "response": row["completion"],
             "rewardScore": row["reward"], "isCorrect": bool(row["reward"])}
            for row in rows_of("camel", truth)]  # fmt: skip
    jsonl(folder / "log.jsonl", rows)
    return truth


@case
def three_hundred_columns(folder: Path) -> Truth:
    """A CSV into which every metric of the step was joined."""
    r, truth = rng("wide"), Truth(clean=True, path="log.csv")
    rows = rows_of("wide", truth, steps=20)
    more = {f"metric_{n}/mean": [r.random() for _ in rows] for n in range(300)}
    more |= {"reward_std": [0.4] * len(rows), "mean_reward": [0.5] * len(rows),
             "lr": [1e-6] * len(rows), "loss": [0.0] * len(rows)}  # fmt: skip
    pl.DataFrame(rows).with_columns(pl.Series(k, v) for k, v in more.items()).write_csv(
        folder / "log.csv"
    )
    return truth


@case
def no_step_at_all(folder: Path) -> Truth:
    """Only prompts, answers and rewards: one batch, as far as anybody can know."""
    truth = Truth(clean=True, path="log.jsonl")
    jsonl(folder / "log.jsonl",
          [{"question": row["prompt"], "answer_text": "", "output": row["completion"],
            "score": row["reward"]} for row in rows_of("stepless", truth)])  # fmt: skip
    return truth


@case
def right_answers_discounted_by_length(folder: Path) -> Truth:
    """0 for wrong, between .8 and 1 for right, less for longer ones."""

    def entry(r: random.Random, _s: int, _p: int, _g: int, _a: int, hit: bool) -> Row:
        return {"score": round(1 - 0.2 * r.random(), 4) if hit else 0.0}

    return dump(folder, "discount", entry, Truth(clean=True), mean=rise)


@case
def out_of_a_hundred(folder: Path) -> Truth:
    """0 or 100."""
    return dump(
        folder, "hundred", lambda *a: {"score": 100.0 * a[-1]}, Truth(clean=True), mean=rise
    )


@case
def percentages_of_a_rubric(folder: Path) -> Truth:
    """Twenty criteria out of a hundred points: nobody knows from where on it is right."""

    def entry(r: random.Random, step: int, _p: int, _g: int, _a: int, _h: bool) -> Row:
        return {"score": 5.0 * min(20, max(0, round(r.gauss(9 + step / 8, 4))))}

    truth = Truth(clean=True, counted=False, says=("--threshold",))
    return dump(folder, "rubric", entry, truth)


@case
def not_a_number_where_it_failed(folder: Path) -> Truth:
    """One in fifty scores is NaN: those rollouts are left out, the rest counts."""
    r, truth = rng("nan"), Truth(never=("groups_mixed", "starved", "saturated", "late_collapse"))
    for step, place, prompt, answer, hits in batches(r, mean=rise):
        for hit in hits:
            lost = r.random() < 0.02
            jsonl(folder / "log" / f"{step}.jsonl",
                  [{"input": prompt, "output": answer_of(r, answer, hit), "gts": str(answer),
                    "score": float("nan") if lost else float(hit), "step": step}])  # fmt: skip
            if not lost:
                truth.add((step, place), hit, float(hit))
    return truth


@case
def penalties_that_grow_slowly(folder: Path) -> Truth:
    """Negative rewards that sink by a third over the run: no collapse, but no news to hide."""

    def entry(r: random.Random, step: int, _p: int, _g: int, _a: int, _h: bool) -> Row:
        return {"score": round(-1.0 - step / 90 + r.gauss(0, 0.25), 4)}

    truth = Truth(counted=False, never=("late_collapse", "starved", "saturated"))
    return dump(folder, "penalties", entry, truth, steps=45)


@case
def held_out_rows_in_the_same_file(folder: Path) -> Truth:
    """data_split says train or validation; validation is greedy and has one answer each."""
    truth = Truth(clean=True, path="log.jsonl")
    rows = [{**row, "data_split": "train"} for row in rows_of("split", truth)]
    rows += [{"step": step, "prompt": f"held out {n}", "completion": f"{n}", "reward": 1.0,
              "data_split": "validation"}
             for step in range(0, 30, 5) for n in range(30)]  # fmt: skip
    jsonl(folder / "log.jsonl", rows)
    return truth


@case
def evaluations_in_a_folder_of_another_name(folder: Path) -> Truth:
    """rollouts/step_<n>.jsonl and eval_rollouts/step_<n>.jsonl side by side."""
    truth = Truth(clean=True)
    for row in rows_of("folders", truth, steps=12):
        jsonl(folder / "log" / "rollouts" / f"step_{row['step']}.jsonl", [row])
    for step in (4, 8, 12):
        jsonl(folder / "log" / "eval_rollouts" / f"step_{step}.jsonl",
              [{"step": step, "prompt": f"held out {n}", "completion": "x", "reward": 0.0}
               for n in range(50)])  # fmt: skip
    return truth


@case
def groups_in_a_sharded_parquet(folder: Path) -> Truth:
    """One row per group, lists of answers and rewards, in shards as datasets writes them."""
    r, truth = rng("shards"), Truth(clean=True)
    rows = []
    for step, place, prompt, answer, hits in batches(r, mean=rise):
        rows.append({"step": step, "prompt": prompt, "rewards": [float(hit) for hit in hits],
                     "responses": [answer_of(r, answer, hit) for hit in hits]})  # fmt: skip
        for hit in hits:
            truth.add((step, place), hit, float(hit))
    (folder / "log").mkdir()
    for shard in range(3):
        name = f"train-{shard:05d}-of-00003.parquet"
        pl.DataFrame(rows[60 * shard : 60 * shard + 60]).write_parquet(folder / "log" / name)
    return truth


@case
def a_compressed_table(folder: Path) -> Truth:
    """CSV in gzip, as pandas writes it."""
    truth = Truth(clean=True, path="log.csv.gz")
    said = pl.DataFrame(rows_of("csv-gz", truth)).write_csv()
    with gzip.open(folder / "log.csv.gz", "wt") as stream:
        stream.write(said)
    return truth


@case
def a_document_of_groups(folder: Path) -> Truth:
    """{"rollouts": [...]}: one JSON document with its rows one level down."""
    truth = Truth(clean=True, path="log.json")
    said = {"run": "a", "config": {"lr": 1e-6}, "rollouts": rows_of("nested", truth)}
    (folder / "log.json").write_text(json.dumps(said, indent=1))
    return truth


def _of(hits: Hits) -> list[float]:
    return [float(hit) for hit in hits]


@case
def samples_inside_a_group(folder: Path) -> Truth:
    """A line per group: the prompt, and its samples as objects."""
    r, truth = rng("samples"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r, mean=rise):
        samples = [{"text": answer_of(r, answer, hit), "reward": value, "finish_reason": "stop"}
                   for hit, value in zip(hits, _of(hits), strict=True)]  # fmt: skip
        jsonl(folder / "log" / "groups.jsonl",
              [{"step": step, "prompt": prompt, "samples": samples}])  # fmt: skip
        for hit in hits:
            truth.add((step, place), hit, float(hit))
    return truth


@case
def two_seeds_side_by_side(folder: Path) -> Truth:
    """Two runs below one folder: the same prompts at the same steps."""
    r, truth = rng("seeds"), Truth(never=("groups_mixed", "starved"))
    asked = list(batches(r, steps=20))
    for seed in (1, 2):
        for step, place, prompt, answer, _ in asked:
            p = r.betavariate(2 + step / 20, 2)
            hits = [r.random() < p for _ in range(8)]
            jsonl(folder / "log" / f"seed_{seed}" / f"{step}.jsonl",
                  [{"input": prompt, "output": answer_of(r, answer, hit), "score": float(hit),
                    "step": step} for hit in hits])  # fmt: skip
            for hit in hits:
                truth.add((seed, step, place), hit, float(hit))
    return truth
