"""Scalars of trackers and checkpoints: every file says the same curve."""

from __future__ import annotations

import csv
import json
import sqlite3
import struct
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.diagnosis.logs.scalar_names import MEANINGS, meaning
from workbench.diagnosis.logs.scalars import is_scalars, read_scalars
from workbench.errors import LogError

CURVE = [(10 * step, step / 8) for step in range(1, 6)]


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def record(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + b"crc1" + content + b"crc2"


def events(path: Path, tag: str = "train/reward", tensor: bool = False) -> Path:
    """What TensorBoard's writer leaves, made by hand: simple values, or TensorFlow 2's tensors."""
    content = record(struct.pack("<Bd", 9, 1.0) + field(3, b"brain.Event:2") + b"\x00" * 0)
    for step, value in CURVE:
        number = struct.pack("<Bf", 2 << 3 | 5, value)
        if tensor:
            number = field(8, b"\x08\x01" + field(4, struct.pack("<f", value)))
        summary = field(1, field(1, tag.encode()) + number)
        content += record(struct.pack("<Bd", 9, 1.0) + b"\x10" + varint(step) + field(5, summary))
    path.write_bytes(content + b"\x99\x00")
    return path


def trainer_state(path: Path) -> Path:
    rows = [{"step": s, "epoch": 0.1, "reward": v, "loss": 0.0} for s, v in CURVE]
    path.write_text(json.dumps({"best_metric": None, "log_history": rows}, indent=2))
    return path


def verl_file(path: Path) -> Path:
    rows = [
        {"step": s, "data": {"critic/rewards/mean": v, "critic/score/mean": 9.0, "text": "x"}}
        for s, v in CURVE
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def wandb_history(path: Path) -> Path:
    rows = [
        {"_step": place, "_runtime": 1.0, "train/global_step": s, "train/reward": v,
         "train/kl": "NaN"}
        for place, (s, v) in enumerate(CURVE)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def wandb_chart(path: Path) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        name = "my - run - train/reward"
        writer.writerow(["Step", name, f"{name}__MIN", f"{name}__MAX"])
        writer.writerows([s, v, v - 1, v + 1] for s, v in CURVE)
        writer.writerow([60, "", "", ""])
    return path


def trackio_database(path: Path) -> Path:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id TEXT, timestamp "
                         "TEXT, run_name TEXT, step INTEGER, metrics TEXT)")  # fmt: skip
        for place, (s, v) in enumerate(CURVE):
            said = json.dumps({"train/global_step": s, "train/reward": v, "t": {"_type": "x"}})
            database.execute("INSERT INTO metrics VALUES (NULL, 'a', 't', 'mine', ?, ?)",
                             (place, said))  # fmt: skip
        database.execute("INSERT INTO metrics VALUES (NULL, 'b', 't', 'other', 0, '{\"x\": 1}')")
    database.close()
    return path


def trackio_parquet(path: Path) -> Path:
    pl.DataFrame(
        [{"run_name": "mine", "timestamp": "t", "step": s, "train/reward": v} for s, v in CURVE]
    ).write_parquet(path)
    return path


def table(path: Path) -> Path:
    pl.DataFrame([{"global_step": s, "mean_reward": v} for s, v in CURVE]).write_csv(path)
    return path


FILES = {
    "events": events,
    "trainer_state.json": trainer_state,
    "verl.jsonl": verl_file,
    "history.jsonl": wandb_history,
    "chart.csv": wandb_chart,
    "p.db": trackio_database,
    "p.parquet": trackio_parquet,
    "table.csv": table,
}


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_the_same_curve_of_the_reward(name, tmp_path):
    path = FILES[name](tmp_path / name)
    assert is_scalars(path)
    said = read_scalars([path])
    assert said.of("reward_mean").rows() == CURVE
    assert "steps from 10 to 50, no rollouts" in said.words
    assert not said.problems.lines()


def test_tensors_of_one_number_are_numbers(tmp_path):
    path = events(tmp_path / "events", tensor=True)
    assert read_scalars([path]).of("reward_mean").rows() == CURVE


def test_an_event_file_that_breaks_off_is_read_up_to_there(tmp_path):
    path = events(tmp_path / "events")
    path.write_bytes(path.read_bytes()[:-20])
    assert read_scalars([path]).of("reward_mean").rows() == CURVE[:-1]


def test_of_several_runs_the_one_that_says_most_is_read(tmp_path):
    said = read_scalars([trackio_database(tmp_path / "p.db")])
    assert (said.run, said.others) == ("mine", ("other",))
    assert "1 other run left out" in said.words


def test_an_evaluation_is_kept_apart_and_the_surer_name_goes_first(tmp_path):
    rows = [{"step": 1, "reward": 0.5, "eval_reward": 0.9, "mean_reward": 7.0}]
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(rows[0]))
    said = read_scalars([path])
    assert said.of("reward_mean").rows() == [(1, 0.5)]
    assert said.of("eval_reward_mean").rows() == [(1, 0.9)]
    assert said.of("kl").is_empty()


def test_no_name_means_two_things_and_every_name_is_known():
    names = [name for names in MEANINGS.values() for name in names]
    assert len(names) == len(set(names))
    for what, mine in MEANINGS.items():
        for name in mine:
            assert meaning(name)[0] == what
            assert meaning(f"train/{name}") is not None
    assert meaning("val-core/gsm8k/acc/mean@8")[0] == "eval_reward_mean"
    assert meaning("something/else") is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2]", b"prose", b'{"loss": 1}', b"a,b\n1,2"])
def test_what_holds_no_scalars_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(content)
    assert not is_scalars(path)
    with pytest.raises(LogError, match=r"^nothing readable: x: no scalars"):
        read_scalars([path])


def test_names_that_are_no_text_and_times_nowhere_cost_themselves_alone(tmp_path):
    path = tmp_path / "trainer_state.json"
    path.write_text('{"log_history": [{"step": 1, "re\\ud800ward": 0.5, "reward": 0.25}]}')
    assert read_scalars([path]).frame["name"].to_list() == ["reward"]
    path = tmp_path / "log.parquet"
    zone = pa.array([0], pa.timestamp("us", tz="Nowhere/None"))
    pq.write_table(pa.table({"step": [1], "reward": [0.5], "at": zone}), path)
    with pytest.raises(LogError, match="cannot be read"):
        read_scalars([path])
