"""CSV that a spreadsheet opens without running it."""

from __future__ import annotations

import csv
import io
import re

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from workbench.analysis.export import csv_text

TEXTS = st.text(alphabet="=+-@\t\ra1,;\"'\n \uff1d\uff0d", max_size=8)
FORMULA = re.compile('[\\s"]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\\t\\r\\n]')


@given(TEXTS.filter(bool), st.lists(TEXTS, min_size=1), st.floats(allow_nan=False))
def test_no_cell_begins_a_formula_and_nothing_else_is_lost(name, cells, number):
    table = pl.DataFrame({name: cells, "x-number": [number] * len(cells)})
    rows = list(csv.reader(io.StringIO(csv_text(table), newline="")))
    for (cell, value), original in zip(rows[1:], cells, strict=True):
        assert not FORMULA.match(cell)
        assert cell.replace("'", "") == original.replace("'", "")
        assert float(value) == number
    assert not FORMULA.match(rows[0][0])
    assert rows[0][0].replace("'", "") == name.replace("'", "")


@given(TEXTS)
def test_no_formula_begins_where_cells_part_at_semicolons(text):
    """As spreadsheets of many countries read it: there a comma is a letter like any other."""
    written = csv_text(pl.DataFrame({"before": ["a"], "text": [text]})).partition("\n")[2]
    parts = re.split("[;\t\r\n]", written)
    assert not any(re.match('[\\s"]*[=+\\-@\uff1d\uff0d]', part) for part in parts)
