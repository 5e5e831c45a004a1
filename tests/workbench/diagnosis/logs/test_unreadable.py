"""What cannot be read of a log: rows, files, bytes; each is one line, and the rest is read."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_logs import rollouts as planted
from planted_logs.rollouts import shares

from recast.quoting import plain_line
from workbench.diagnosis.diagnosis import diagnose
from workbench.diagnosis.logs import rows as log_rows
from workbench.diagnosis.logs.read import files_of, read_log
from workbench.errors import LogError

BAD = {
    "truncated": b'{"step": 1, "prompt": "p", "rew',
    "no object": b"[1, 2]\n",
    "no JSON": b"nonsense\n",
    "no UTF-8": b'{"step": 1, "prompt": "\xff\xfe", "reward": 1}\n',
    "NaN": b'{"step": 1, "prompt": "p", "reward": NaN}\n',
    "infinite": b'{"step": 1, "prompt": "p", "reward": 1e999}\n',
    "a text as reward": b'{"step": 1, "prompt": "p", "reward": "good"}\n',
    "no reward": b'{"step": 1, "prompt": "p"}\n',
    "no prompt": b'{"step": 1, "reward": 1}\n',
    "half a step": b'{"step": 1.5, "prompt": "p", "reward": 1}\n',
    "a huge step": b'{"step": 1e300, "prompt": "p", "reward": 1}\n',
    "deep": b"[" * 100_000 + b"\n",
    "null": b"null\n",
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_row_costs_one_line_and_the_rest_is_diagnosed(what, rows, tmp_path):
    path = planted.as_jsonl(rows, tmp_path / "log.jsonl")
    content = path.read_bytes().splitlines(keepends=True)
    place = len(content) if what == "truncated" else 100
    content.insert(place, BAD[what])
    path.write_bytes(b"".join(content))
    log = read_log([path])
    assert log.problems.unreadable == 1
    (line,) = log.problems.lines()
    assert line.startswith(f"log.jsonl: row {place + 1}: ")
    assert line.count("\n") == 0
    assert log.problems.share == pytest.approx(1 / (len(rows) + 1))
    assert shares(log) == pytest.approx(planted.regimes_of(rows))


def test_many_bad_rows_are_counted_and_only_the_first_are_listed(rows, tmp_path):
    path = planted.as_jsonl(rows, tmp_path / "log.jsonl")
    with path.open("ab") as stream:
        stream.write(b"nonsense\n" * 500)
    log = read_log([path])
    assert log.problems.unreadable == 500
    assert len(log.problems.lines()) == 21
    assert log.problems.lines()[-1] == "and 480 more: no valid JSON"


def test_a_line_without_end_is_skipped_and_the_next_is_read(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(log_rows, "LONGEST_LINE", 1000)
    path = planted.as_jsonl(rows, tmp_path / "log.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(5, b'{"prompt": "' + b"x" * 5000 + b'"}\n')
    path.write_bytes(b"".join(lines))
    log = read_log([path])
    assert log.problems.lines() == ["log.jsonl: row 6: a line of more than 1,000 bytes"]
    assert log.total == len(rows)


def test_csv_rows_with_other_fields_are_named(rows, tmp_path):
    path = tmp_path / "log.csv"
    pl.DataFrame(rows).write_csv(path)
    with path.open("a") as stream:
        stream.write("1,2,3\n")
    log = read_log([path])
    fields = len(rows[0])
    assert log.problems.lines() == [
        f"log.csv: row {len(rows) + 2}: 3 fields; the header has {fields}"
    ]


def unreadable(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Files of which nothing can be read, and what is said of each."""
    files = {
        "empty.jsonl": (b"", "empty"),
        "blank.jsonl": (b"\n\n  \n", "empty"),
        "gz.jsonl": (gzip.compress(b"{}"), "no prompt"),
        "cut.jsonl.gz": (gzip.compress(bytes(range(250)))[:40], "gzip"),
        "array.json": (b'[{"step": 1}]', "no prompt"),
        "binary.parquet": (bytes(range(256)), "neither"),
        "prose.csv": (b"Dear reader\n", "neither"),
        "damaged.parquet": (b"PAR1" + b"\x00" * 100, "damaged parquet"),
        "header.csv": (b"step,prompt,reward\n", "it holds no rows"),
        "other.jsonl": (b'{"loss": 1}\n', "no prompt"),
    }
    found = {}
    for name, (content, said) in files.items():
        (tmp_path / name).write_bytes(content)
        found[name] = (tmp_path / name, said)
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.writestr("log.jsonl", "{}")
    found["log.zip"] = (tmp_path / "log.zip", "zip archive")
    return found


def test_a_file_of_which_nothing_is_readable_is_one_line(tmp_path):
    for name, (path, said) in unreadable(tmp_path).items():
        with pytest.raises(LogError, match="nothing readable") as caught:
            read_log([path])
        assert "\n" not in str(caught.value)
        assert said in str(caught.value), name


def test_readable_files_beside_unreadable_ones_are_diagnosed(rows, tmp_path):
    bad = unreadable(tmp_path)
    good = planted.as_jsonl(rows, tmp_path / "good.jsonl")
    log = read_log([*(path for path, _ in bad.values()), good])
    assert log.files == 1
    assert shares(log) == pytest.approx(planted.regimes_of(rows))
    assert sum("log.zip" in line for line in log.problems.lines()) == 1


def test_a_parquet_that_breaks_off_is_one_line(rows, tmp_path):
    path = tmp_path / "log.parquet"
    pl.DataFrame(rows).write_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(LogError, match="damaged parquet"):
        read_log([path])


def test_columns_of_kinds_that_no_log_has_are_read_around_or_named(rows, tmp_path):
    """Time zones that do not exist make Polars panic; bytes in a struct, and spans of time, are
    nothing that it writes as text."""
    table = pl.DataFrame(rows).to_arrow()
    zone = pa.array([0] * len(rows), pa.timestamp("us", tz="Nowhere/None"))
    for name, column, said in (
        ("at", zone, "cannot be read (PanicException: "),
        ("prompt", pa.array([{"a": b"x"}] * len(rows)), "cannot be read (PanicException: "),
        ("completion", pa.array([1] * len(rows), pa.duration("us")), ""),
    ):
        names = [one for one in table.column_names if one != name]
        odd = table.select(names).append_column(name, column)
        pq.write_table(odd, tmp_path / "odd.parquet")
        if said:
            with pytest.raises(LogError, match=re.escape(said)):
                read_log([tmp_path / "odd.parquet"])
        else:
            assert read_log([tmp_path / "odd.parquet"]).total == len(rows)


def test_a_name_that_is_no_text_is_no_column(rows, tmp_path):
    path = planted.as_jsonl(rows, tmp_path / "log.jsonl")
    path.write_text(path.read_text().replace('{"', '{"\\ud800": 1, "', len(rows) // 2))
    assert read_log([path]).total == len(rows)


def test_folders_are_looked_into_as_far_as_any_log_lies(rows, tmp_path):
    """A thousand folders, one in the other, are more than Python's own walk can bear."""
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("n", dir_fd=here)
        inner = os.open("n", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    try:
        with pytest.raises(LogError, match="no log in this folder"):
            files_of([tmp_path])
        path = planted.as_jsonl(rows, tmp_path / "n" / "n" / "log.jsonl")
        assert files_of([tmp_path]) == [path]
    finally:  # nor could pytest's own way of removing what tests leave
        subprocess.run(["rm", "-rf", tmp_path / "n"], check=True)


def test_a_path_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(LogError, match="no such file"):
        files_of([tmp_path / "nowhere"])
    with pytest.raises(LogError, match="no such file"):
        files_of([Path("a\0b")])
    with pytest.raises(LogError, match="no log in this folder"):
        files_of([tmp_path])


HOSTILE = [
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "[red]bold[/red]",
    "\x1b[31mred\x1b[0m",
    "a\nb",
    "\u202eevil",
    "=HYPERLINK(1)",
    "\ud83d",
    "x" * 10_000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text, tmp_path):
    rows = [
        {**row, "prompt": text + row["prompt"], "task": text, "prediction": text, text: text}
        for row in planted.log(steps=2)
    ]
    log = read_log([planted.as_jsonl(rows, tmp_path / "log.jsonl")])
    (task,) = set(diagnose(log).groups["task"])
    assert task.isprintable()
    assert len(task) <= 60
    assert plain_line(text).isprintable()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_in_one_line(content):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(content)
        said = ""
        try:
            read_log([path])
        except LogError as problem:
            said = str(problem)
        assert said.isprintable()


def test_a_number_whose_name_sounds_like_a_verdict_is_no_reward_unless_it_is_one(tmp_path):
    rows = [
        {"step": i // 16, "question": f"q{i // 8}", "correct_answer": i % 13} for i in range(64)
    ]
    with pytest.raises(LogError, match="no reward"):
        read_log([planted.as_jsonl(rows, tmp_path / "answers.jsonl")])
    verdicts = [{**row, "was_correct": i % 3 == 0} for i, row in enumerate(rows)]
    log = read_log([planted.as_jsonl(verdicts, tmp_path / "verdicts.jsonl")])
    assert log.reading.reward == "was_correct"
