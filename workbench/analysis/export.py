"""Tables as CSV that a spreadsheet shows and never runs."""

from __future__ import annotations

import polars as pl

SIGNS = r"=+\-@\uff1d\uff0b\uff0d\uff20"
"""What a formula begins with, also in wide letters of East Asia: a class of a regex."""
STARTS = rf'^[\s"]*[{SIGNS}]|^[\t\r\n]'
"""How a cell begins that a spreadsheet takes for a formula."""
INSIDE = rf'([;\t\r\n][\s"]*)([{SIGNS}])'
"""The same within a text: many countries' spreadsheets part cells at semicolons, and take a line's
end for one where they do not know a comma."""


def plain_cell(text: pl.Expr) -> pl.Expr:
    """Texts with an apostrophe wherever a spreadsheet would find a formula."""
    inner = text.str.replace_all(INSIDE, "$1'$2")
    return pl.when(inner.str.contains(STARTS)).then("'" + inner).otherwise(inner)


def csv_text(table: pl.DataFrame) -> str:
    """CSV with an apostrophe before every text, and every column's name, that would be a formula;
    numbers stay numbers."""
    texts = [
        name
        for name, kind in table.schema.items()
        if kind == pl.String or isinstance(kind, (pl.Categorical, pl.Enum))
    ]
    heads = pl.DataFrame({"name": table.columns}, schema={"name": pl.String})
    names = heads.select(plain_cell(pl.col("name"))).to_series().to_list()
    return (
        table.with_columns(plain_cell(pl.col(name).cast(pl.String)).alias(name) for name in texts)
        .rename(dict(zip(table.columns, names, strict=True)))
        .write_csv()
    )
