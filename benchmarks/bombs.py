"""Small files that become large, written without ever being large."""

from __future__ import annotations

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


BOMBS = {"dictionary": dictionary, "rewards": rewards, "page": page, "lists": lists}
