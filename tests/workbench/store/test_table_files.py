"""Tables that somebody saved are read, or refused in one phrase."""

from __future__ import annotations

import gzip
import os

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from workbench.store.table_files import read_table

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
ROWS = st.lists(st.tuples(st.from_regex(r"[a-z]{1,5}", fullmatch=True), NUMBERS), min_size=1)


@given(rows=ROWS)
def test_what_was_written_is_read_whatever_the_file_is_called(rows, tmp_path_factory):
    table = pl.DataFrame(rows, schema={"name": pl.String, "value": pl.Float64}, orient="row")
    folder = tmp_path_factory.mktemp("tables")
    table.write_csv(folder / "table.txt")
    table.write_json(folder / "table")
    for name in ("table.txt", "table"):
        assert_frame_equal(read_table(folder / name, 100_000), table)


def test_a_number_that_becomes_a_fraction_late_is_read(tmp_path):
    path = tmp_path / "late.csv"
    path.write_text("value\n" + "1\n" * 500 + "0.5\n")
    assert read_table(path, 100_000)["value"][-1] == 0.5


def test_what_is_no_table_within_bounds_is_refused_in_one_phrase(tmp_path):
    (tmp_path / "bad").write_text("{not json")
    (tmp_path / "large").write_text("a,b\n" * 100)
    (tmp_path / "empty").write_text("")
    (tmp_path / "packed").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        ("bad", ""),
        ("large", "larger than 100 bytes"),
        ("empty", ""),
        ("packed", "unpack it first"),
        ("pipe", "no regular file"),
        (".", "no regular file"),
        ("none", "No such file or directory"),
    ):
        with pytest.raises(ValueError, match=rf"^cannot be read \(.*{reason}.*\)$"):
            read_table(tmp_path / name, 100)
