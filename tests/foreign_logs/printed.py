"""Logs that went through something else: packers, collectors of logs, consoles, trackers."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import polars as pl
import pyarrow as pa

from foreign_logs.cases import Row, Truth, case, grpo, jsonl, rng
from foreign_logs.scalars import TRL, values
from foreign_logs.wrapped import sampled

HEALTHY = Truth(clean=True, says=("no rollouts",))
STARVED = Truth(must=("starved",), says=("no rollouts",))


def without_hits(_: float, r: random.Random) -> Row:
    return {"reward": 0.01 + 0.004 * r.random(), "zero": 0.92 + 0.02 * r.random()}


def printed(name: str, folder: Path, file: str, of: Callable[[Row], str]) -> Truth:
    """A clean log with a text for each rollout."""
    truth = Truth(clean=True)
    text = [of(row) for *_, rows in sampled(rng(name), truth) for row in rows]
    place = folder / "log" / file
    place.parent.mkdir(parents=True)
    place.write_text("".join(text))
    return truth


def packed(name: str, folder: Path, file: str, pack: Callable[[bytes], bytes]) -> Truth:
    """A clean log whose file is packed."""
    truth = printed(name, folder, "plain", lambda row: json.dumps(row) + "\n")
    plain = folder / "log" / "plain"
    (folder / "log" / file).write_bytes(pack(plain.read_bytes()))
    plain.unlink()
    return truth


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


@case
def packed_by_zstd(folder: Path) -> Truth:
    return packed("zstd", folder, "rollouts.jsonl.zst", zstd)


@case
def packed_by_xz(folder: Path) -> Truth:
    return packed("xz", folder, "rollouts.jsonl.xz", lzma.compress)


@case
def packed_by_bzip2(folder: Path) -> Truth:
    return packed("bzip2", folder, "rollouts.jsonl.bz2", bz2.compress)


@case
def in_utf_16(folder: Path) -> Truth:
    return packed("wide", folder, "rollouts.jsonl", lambda one: one.decode().encode("utf-16"))


@case
def gzip_that_was_cut(folder: Path) -> Truth:
    """What stands before the cut is read."""
    packed("cut", folder, "rollouts.jsonl.gz", lambda one: gzip.compress(one)[:-4000])
    return Truth(clean=True)


@case
def lines_of_a_container(folder: Path) -> Truth:
    """Docker's json-file driver, which cuts long lines."""

    def kept(row: Row) -> str:
        long = row["completion"] if row["step"] % 4 else "word " * 4000 + row["completion"]
        line = "INFO:rollout:" + json.dumps(row | {"completion": long}) + "\n"
        parts = [line[place : place + 16384] for place in range(0, len(line), 16384)]
        said = [{"log": part, "stream": "stdout", "time": "2026-01-01T00:00:00Z"} for part in parts]
        return "".join(json.dumps(one) + "\n" for one in said)

    truth = printed("docker", folder, "container-json.log", kept)
    truth.clean = False
    return truth


@case
def lines_of_a_pod(folder: Path) -> Truth:
    """Kubernetes' runtime, ray's colours, and other lines between."""
    return printed("pod", folder, "0.log", lambda row: (
        "2026-01-01T00:00:00.1Z stderr F Loading 3/4 {x}\n"
        "2026-01-01T00:00:00.1Z stdout F \x1b[36m(Worker pid=7)\x1b[0m 12:00:01 INFO - "
        f"{json.dumps(row)}\n"))  # fmt: skip


@case
def dicts_that_python_printed(folder: Path) -> Truth:
    return printed("repr", folder, "train.out", lambda row: f"{row | {'cut': None}!r}\n")


@case
def objects_over_many_lines(folder: Path) -> Truth:
    """json.dump(indent=2), one after the other."""
    return printed("pretty", folder, "log.json", lambda row: json.dumps(row, indent=2) + "\n")


@case
def an_array_without_an_end(folder: Path) -> Truth:
    truth = printed("open", folder, "log.json", lambda row: f"{json.dumps(row)},\n")
    place = folder / "log" / "log.json"
    place.write_text(f'[{place.read_text()}{{"step": 13, ')
    return truth


@case
def easyr1_validations(folder: Path) -> Truth:
    """generations.log: the same prompts at every validation, no step."""
    truth, r, text = Truth(never=("groups_mixed", "group_of_one")), rng("easyr1"), ""
    for turn in range(4):
        for place in range(8):
            for _ in range(8):
                hit = r.random() < 0.2 + 0.06 * place
                truth.add((turn, place), hit, float(hit))
                text += f"[prompt] user\nHow many in case {place}?\n[output] So {r.random()}.\n\n"
                text += f"It is.\n[ground_truth] {place}\n[score] {float(hit)}\n\n"
    (folder / "log").mkdir()
    (folder / "log" / "generations.log").write_text(text)
    return truth


def drawn(rows: Iterable[Row], step: int) -> str:
    """A table as rich draws it, with narrow cells that go on in the next line."""
    text = f"╭──── Step {step} ────╮\n│ ┏━━━┳━━━┳━━━┳━━━┓ │\n"
    text += "│ ┃ Prompt ┃ Completion ┃ right ┃ Advantage ┃ │\n│ ┡━━━╇━━━╇━━━╇━━━┩ │\n"
    for row in rows:
        words, said = row["prompt"].split(), row["completion"].split()
        cells = [(" ".join(words[:9]), " ".join(said[:9]), f"{row['reward']:.2f}", "0.10"),
                 (" ".join(words[9:]), " ".join(said[9:]), "", "")]  # fmt: skip
        text += "".join(f"│ │ {' │ '.join(line)} │ │\n" for line in cells)
        text += "│ ├───┼───┼───┼───┤ │\n"
    return text + "╰────────╯\n"


@case
def tables_drawn_on_a_console(folder: Path) -> Truth:
    truth, text = Truth(clean=True), ""
    for step, _, _, rows in sampled(rng("drawn"), truth, steps=25, batch=1):
        text += drawn(rows, step)
    (folder / "log").mkdir()
    (folder / "log" / "console.txt").write_text(text)
    return truth


@case
def examples_drawn_on_a_console(folder: Path) -> Truth:
    """num_completions_to_print: no whole groups."""
    text, truth = "", Truth()
    for step, _, _, rows in sampled(rng("examples"), truth, steps=25, batch=1):
        text += drawn(rows[:1], step)
    (folder / "log").mkdir()
    (folder / "log" / "console.txt").write_text(text)
    return Truth(refused=("examples only",))


@case
def advantages_of_two_decimals(folder: Path) -> Truth:
    truth = Truth(clean=True)
    for *_, rows in sampled(rng("rounded"), truth, steps=20):
        said = grpo([row["reward"] for row in rows])
        table = [row | {"advantage": round(a, 2)} for row, a in zip(rows, said, strict=True)]
        jsonl(folder / "log" / "rollouts.jsonl", table)
    return truth


@case
def rewards_repeated_for_every_token(folder: Path) -> Truth:
    r = rng("tokens")

    def spread(row: Row) -> str:
        many = r.randint(5, 30)
        return json.dumps(row | {"reward": None, "rewards": [row["reward"]] * many,
                                 "response_mask": [1] * many}) + "\n"  # fmt: skip

    return printed("tokens", folder, "rollouts.jsonl", spread)


@case
def rewards_that_are_shares(folder: Path) -> Truth:
    return printed("shares", folder, "rollouts.jsonl", lambda row: (
        json.dumps(row | {"reward": f"{row['reward']}/1.0"}) + "\n"))  # fmt: skip


@case
def turns_of_which_the_last_is_paid(folder: Path) -> Truth:
    """verl-agent's names: what each turn asks differs."""
    r, truth = rng("turns"), Truth(clean=True)
    for step, place, _, rows in sampled(r, truth):
        for number, row in enumerate(rows):
            turns = r.randint(2, 4)
            jsonl(folder / "log" / "turns.jsonl", [{
                "step": step, "uid": f"u{step}-{place}", "traj_uid": f"t{number}", "turn_idx": turn,
                "input": f"Sight {r.random()}", "output": f"Go {r.random()}",
                "score": row["reward"] if turn == turns - 1 else None}
                for turn in range(turns)])  # fmt: skip
    return truth


@case
def thirds_of_groups_by_worker(folder: Path) -> Truth:
    """A prompt that comes twice in a step has twice the rollouts in every file."""
    truth, r = Truth(clean=True), rng("thirds")
    for step in range(1, 21):
        for place, prompt in enumerate(["same", "same", *(f"{step}.{n}" for n in range(4))]):
            place = place if step == 7 else max(place, 1)
            if step != 7 and prompt == "same":
                prompt = f"{step}.{place}.{len(truth.rows)}"
                place = len(truth.rows)
            hits = [r.random() < 0.5 for _ in range(6)]
            for rank in range(3):
                jsonl(folder / "log" / f"step_{step}_rank_{rank}.jsonl", [
                    {"prompt": prompt, "completion": f"{r.random()}.", "reward": float(hit)}
                    for hit in hits[2 * rank : 2 * rank + 2]])  # fmt: skip
            for hit in hits:
                truth.add((step, place), hit, float(hit))
    return truth


@case
def artifacts_of_art(folder: Path) -> Truth:
    """OpenPipe ART: trajectories/train/0001.parquet, group_index counts from 0 in each file."""
    truth, tables = Truth(clean=True), dict[int, list[Row]]()
    for step, place, prompt, rows in sampled(rng("art"), truth):
        tables.setdefault(step, []).extend(
            {"group_index": place, "group_metadata": None, "reward": row["reward"],
             "metrics": json.dumps({"turns": 2}), "metadata": json.dumps({"project": "x"}),
             "messages": [{"role": "user", "content": prompt, "trainable": False},
                          {"role": "assistant", "content": row["completion"], "trainable": True}]}
            for row in rows
        )  # fmt: skip
    log = folder / "log" / ".art" / "proj" / "models" / "m" / "trajectories" / "train"
    log.mkdir(parents=True)
    for step, table in tables.items():
        pl.DataFrame(table).write_parquet(log / f"{step:04d}.parquet")
    return truth


def a_csv(path: Path, rows: Sequence[Sequence[object]], separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    path.write_text(text.getvalue())


@case
def charts_of_wandb_with_their_bounds(folder: Path) -> Truth:
    """One CSV a chart, its step under the trainer's name, __MIN and __MAX beside."""
    said = values("charts", TRL, without_hits)
    for name in ("reward", "frac_reward_zero_std"):
        head = [
            "train/global_step",
            *(f"run - train/{name}{end}" for end in ("", "__MIN", "__MAX")),
        ]
        a_csv(
            folder / "log" / f"wandb_{name}.csv",
            [head, *([s, *[row[name]] * 3] for s, row in said)],
        )
    return STARVED


@case
def files_of_mlflow(folder: Path) -> Truth:
    """mlruns/<experiment>/<run>/metrics/<name>."""
    run = folder / "log" / "mlruns" / "1" / "0af3"
    for step, row in values("mlruns", TRL, without_hits):
        for name, value in row.items():
            place = run / "metrics" / "train" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("a") as stream:
                stream.write(f"{1767225600000 + step} {value} {step}\n")
    (run / "meta.yaml").write_text("run_id: 0af3\n")
    return STARVED


@case
def database_of_mlflow(folder: Path) -> Truth:
    (folder / "log").mkdir()
    with closing(sqlite3.connect(folder / "log" / "mlflow.db")) as database:
        database.execute("create table metrics (key text, value float, timestamp bigint, "
                         "run_uuid text, step bigint, is_nan boolean)")  # fmt: skip
        for step, row in values("mlflow.db", TRL, without_hits):
            cells = [(name, value, step, "a", step, 0) for name, value in row.items()]
            database.executemany("insert into metrics values (?, ?, ?, ?, ?, ?)", cells)
        database.commit()
    return STARVED


@case
def tensorboard_downloads(folder: Path) -> Truth:
    """A CSV and a JSON of one chart each; the tag is in the file's name."""
    said = values("downloads", TRL, without_hits)
    name = "run-x-tag-train_frac_reward_zero_std.csv"
    a_csv(folder / "log" / name, [["Wall time", "Step", "Value"],
          *([1.7e9 + s, s, row["frac_reward_zero_std"]] for s, row in said)])  # fmt: skip
    rows = [[1.7e9 + s, s, row["reward"]] for s, row in said]
    (folder / "log" / "run-x-tag-train_reward.json").write_text(json.dumps(rows))
    return STARVED


@case
def a_notebooks_table(folder: Path) -> Truth:
    names = ["reward", "frac_reward_zero_std", "completions/mean_length", "kl"]
    head = ["Step", "Training Loss", *(name.replace("/", " / ") for name in names)]
    said = values("notebook", TRL, without_hits)
    rows = [[s, 0.0, *(row[name] for name in names)] for s, row in said]
    a_csv(folder / "log" / "table.txt", [head, *rows], "\t")
    return STARVED


@case
def a_long_table_of_comet(folder: Path) -> Truth:
    said = values("comet", TRL, lambda *_: {})
    rows = [["x", name, value, s] for s, row in said for name, value in row.items()]
    head = ["experimentKey", "metricName", "metricValue", "step"]
    a_csv(folder / "log" / "metrics.csv", [head, *rows])
    return HEALTHY
