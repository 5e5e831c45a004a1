"""A small form of `make hostile`: generated inputs, two bombs, a log read under guard."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from workbench.diagnosis.logs.read import files_of
from workbench.diagnosis.logs.scalars import Scalars, read_scalars
from workbench.errors import LogError
from workbench.jobs import log_reading

ROOT = Path(__file__).parents[1]


def test_forty_generated_inputs_break_no_promise():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hostile", "--inputs", "40", "--only", "inputs"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "40 generated inputs" in done.stdout
    assert "0 promises broken" in done.stdout


def bomb(kind: str, path: Path, size: int) -> Path:
    """Written by a process of its own, which may be large."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.bombs import BOMBS; "
        "BOMBS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))"
    )
    subprocess.run([sys.executable, "-c", code, kind, str(path), str(size)], cwd=ROOT, check=True)
    return path


@pytest.mark.parametrize(("kind", "size"), [("page", 400_000_000), ("rewards", 20_000_000)])
def test_a_small_file_that_becomes_large_ends_its_reader_alone(kind, size, tmp_path, monkeypatch):
    monkeypatch.setattr(log_reading, "GIBIBYTES", 0.7)
    monkeypatch.setattr(log_reading, "SECONDS", 20)
    path = bomb(kind, tmp_path / "log", size)
    assert path.stat().st_size < 100_000
    with pytest.raises(LogError, match=r"GiB of memory|seconds of processor time|nothing readable"):
        log_reading.read_guarded([path])


def test_what_is_read_under_guard_is_what_is_read_without():
    example = ROOT / "workbench" / "example" / "rollouts.parquet"
    guarded, plain = log_reading.read_guarded([example]), log_reading.read_log([example])
    assert guarded.rollouts.equals(plain.rollouts)
    assert guarded.words == plain.words
    assert (guarded.form, guarded.files, guarded.kept, guarded.total) == (
        plain.form,
        plain.files,
        plain.kept,
        plain.total,
    )
    assert guarded.problems.lines() == plain.problems.lines()


@pytest.mark.parametrize("what", ["history", "numbers"])
def test_scalars_are_read_under_the_same_ceilings(what, tmp_path, monkeypatch):
    """A table of scalars of half a megabyte that holds forty million numbers; and an honest one."""
    monkeypatch.setattr(log_reading, "GIBIBYTES", 0.7)
    monkeypatch.setattr(log_reading, "SECONDS", 20)
    rows = 40_000_000 if what == "numbers" else 300
    code = (
        "import sys, polars as pl; n = int(sys.argv[2]); "
        "pl.select(step=pl.int_range(n, dtype=pl.Int32), reward=pl.lit(0.5), entropy=pl.lit(0.5))"
        ".write_parquet(sys.argv[1], statistics=False)"
    )
    path = tmp_path / "history.parquet"
    subprocess.run([sys.executable, "-c", code, str(path), str(rows)], check=True)
    if what == "numbers":
        with pytest.raises(LogError):
            log_reading.read_guarded([path], log_reading.HowToRead(scalars=True))
        return
    found = log_reading.read_guarded([path], log_reading.HowToRead(scalars=True))
    assert isinstance(found, Scalars)
    assert found.frame.equals(read_scalars([path]).frame)


def test_a_pipe_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(LogError, match="no regular file"):
        log_reading.read_guarded([tmp_path / "log.jsonl"])


def test_a_file_of_the_system_that_shows_no_size_is_never_opened():
    """Some of them, such as /proc/kmsg, keep who reads them waiting for ever."""
    assert Path("/proc/version").read_bytes()
    with pytest.raises(LogError, match="the file is empty"):
        log_reading.read_guarded([Path("/proc/version")], log_reading.HowToRead(scalars=True))


def test_a_file_that_goes_while_its_folder_is_listed_ends_nothing(tmp_path, monkeypatch):
    log = tmp_path / "log.jsonl"
    log.write_text("{}")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nothing")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    assert files_of([tmp_path]) == [tmp_path / "gone.json", log]


def test_a_file_that_may_not_be_looked_at_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "log.jsonl").write_text("{}")

    def refuse(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(LogError, match="no log in this folder"):
        files_of([tmp_path])


def test_only_plain_text_is_read_in_this_process(tmp_path):
    """A packed text becomes large, and a view of a database can go on for ever."""
    text = b'{"step": 0, "prompt": "p", "reward": 1.0}\n' * 9
    packed = {"gz": gzip.compress(text), "bz2": bz2.compress(text), "xz": lzma.compress(text)}
    others = {"utf16": text.decode().encode("utf-16"), "zip": b"PK", "parquet": b"PAR1"}
    for name, content in {"jsonl": text, "csv": b"a,b\n", **packed, **others}.items():
        (tmp_path / name).write_bytes(content)
    with closing(sqlite3.connect(tmp_path / "db")) as database, database:
        database.execute("CREATE VIEW metrics AS SELECT 1 AS step, '{}' AS metrics")
    grows = {path.name: log_reading._may_grow(path) for path in tmp_path.iterdir()}
    assert grows == {name: name not in ("jsonl", "csv") for name in grows}
