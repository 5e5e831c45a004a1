"""Tables as CSV that a spreadsheet shows and never runs."""

from __future__ import annotations

import polars as pl

STARTS = r"^[=+\-@\t\r]"
"""How a cell begins that a spreadsheet takes for a formula."""


def csv_text(table: pl.DataFrame) -> str:
    """CSV with an apostrophe before every text, and every column's name, that would be a formula;
    numbers stay numbers."""
    texts = [
        name
        for name, kind in table.schema.items()
        if kind == pl.String or isinstance(kind, (pl.Categorical, pl.Enum))
    ]
    quoted = [
        pl.when(pl.col(name).cast(pl.String).str.contains(STARTS))
        .then("'" + pl.col(name).cast(pl.String))
        .otherwise(pl.col(name).cast(pl.String))
        .alias(name)
        for name in texts
    ]
    names = {name: f"'{name}" for name in table.columns if name[:1] in tuple("=+-@\t\r")}
    return table.with_columns(quoted).rename(names).write_csv()
