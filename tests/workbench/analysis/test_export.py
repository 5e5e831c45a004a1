"""CSV that a spreadsheet opens without running it."""

from __future__ import annotations

import csv
import io

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from workbench.analysis.export import csv_text

TEXTS = st.text(alphabet="=+-@\t\ra1,\"'\n", max_size=6)


@given(TEXTS.filter(bool), st.lists(TEXTS, min_size=1), st.floats(allow_nan=False))
def test_no_cell_begins_a_formula_and_nothing_else_is_lost(name, cells, number):
    table = pl.DataFrame({name: cells, "x-number": [number] * len(cells)})
    rows = list(csv.reader(io.StringIO(csv_text(table), newline="")))
    for (cell, value), original in zip(rows[1:], cells, strict=True):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert cell in (original, f"'{original}")
        assert float(value) == number
    assert rows[0][0] in (name, f"'{name}")
    assert not rows[0][0].startswith(("=", "+", "-", "@", "\t", "\r"))
