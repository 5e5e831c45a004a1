"""Small files that become large, written without ever being large."""

from __future__ import annotations

import gzip
import json
import pickle
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def dictionary(path: Path, rows: int = 20_000, length: int = 1_000_000) -> Path:
    """One long text that every row of a parquet names."""
    index = pa.array([0] * rows, pa.int32())
    text = pa.DictionaryArray.from_arrays(index, pa.array(["x" * length]))
    table = pa.table(
        {
            "step": pa.array([0] * rows),
            "prompt": text,
            "completion": text,
            "reward": pa.array([0.0, 1.0] * (rows // 2)),
        }
    )
    pq.write_table(table, path, compression="zstd", row_group_size=rows, store_schema=False)
    return path


def rewards(path: Path, count: int = 50_000_000) -> Path:
    """One row with a list of so many equal rewards."""
    values = pa.repeat(0.0, count) if hasattr(pa, "repeat") else pa.nulls(0)
    lists = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), values)
    table = pa.table({"step": pa.array([0]), "prompt": pa.array(["p"]), "reward": lists})
    pq.write_table(table, path, compression="zstd")
    return path


def page(path: Path, length: int = 1_000_000_000) -> Path:
    """A few texts of very many equal letters, compressed."""
    texts = pa.array(["a" * length, "b" * length], pa.large_string())
    table = pa.table({"step": pa.array([0, 0]), "prompt": texts, "reward": pa.array([0.0, 1.0])})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    return path


def lists(path: Path, length: int = 15_000_000) -> Path:
    """Lines of JSON that hold very many empty lists."""
    line = '{"step": 0, "prompt": "p", "reward": [%s[]]}\n' % ("[]," * (length // 3))
    path.write_text(line * 3, encoding="utf-8")
    return path


def nested(path: Path, length: int = 45_000_000) -> Path:
    """A JSON document that is one list inside another, very many times."""
    path.write_text("[" * (length // 2) + "]" * (length // 2), encoding="utf-8")
    return path


def squeezed(path: Path, length: int = 2_000_000_000) -> Path:
    """gzip over very many zeros."""
    piece = bytes(10_000_000)
    with gzip.open(path, "wb", compresslevel=9) as stream:
        for _ in range(length // len(piece)):
            stream.write(piece)
    return path


def archive(path: Path, length: int = 1_000_000_000) -> Path:
    """A PyTorch file by its members, one of which unpacks to very many zeros."""
    piece = bytes(10_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("archive/data.pkl", pickle.dumps({"samples": [1]}))
        with made.open("archive/data/0", "w", force_zip64=True) as stream:
            for _ in range(length // len(piece)):
                stream.write(piece)
    return path


def events(path: Path, length: int = 2**62) -> Path:
    """TensorBoard's events, the second of which says that it is very long."""
    first = b"\x1a\rbrain.Event:2" + bytes(40)
    head = struct.pack("<Q", len(first)) + bytes(4) + first + bytes(4)
    path.write_bytes(head + struct.pack("<Q", length) + bytes(4) + b"x" * 64)
    return path


def history(path: Path, length: int = 300_000_000) -> Path:
    """A trainer_state.json whose history is very long."""
    line = json.dumps({"step": 1, "reward": 0.5, "kl": 0.1})
    with path.open("w", encoding="utf-8") as stream:
        stream.write('{"log_history": [' + line)
        piece = ("," + line) * 10_000
        for _ in range(length // len(piece)):
            stream.write(piece)
        stream.write("]}")
    return path


def wide(path: Path, columns: int = 1_000_000) -> Path:
    """wandb's table of very many columns."""
    names = [f"c{k}" for k in range(columns)]
    table = {"columns": [*names, "prompt", "reward"], "data": [[0] * columns + ["p", 1.0]] * 2}
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def header(path: Path, columns: int = 1_000_000) -> Path:
    """A CSV of very many columns."""
    names = ",".join(["step", "prompt", "reward", *(f"c{k}" for k in range(columns))])
    row = "0,p,1.0" + ",0" * columns
    path.write_text(f"{names}\n{row}\n{row}\n", encoding="utf-8")
    return path


def database(path: Path, length: int = 200_000_000) -> Path:
    """trackio's database with one very long entry."""
    with closing(sqlite3.connect(path)) as made, made:
        made.execute("CREATE TABLE metrics (id INTEGER, run_name TEXT, step INTEGER, metrics TEXT)")
        made.execute("INSERT INTO metrics VALUES (1, 'r', 0, zeroblob(?))", (length,))
    return path


BOMBS: dict[str, Callable[[Path], Path]] = {
    "dictionary": dictionary,
    "rewards": rewards,
    "page": page,
    "lists": lists,
    "nested": nested,
    "squeezed.jsonl.gz": squeezed,
    "archive.pt": archive,
    "events.out.tfevents.1": events,
    "trainer_state.json": history,
    "table.json": wide,
    "wide.csv": header,
    "trackio.db": database,
}
