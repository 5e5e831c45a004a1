"""`recast lm data`."""

from __future__ import annotations

from pathlib import Path

import click
import polars as pl

from workbench.commands.lm.session import CODEBOOK, DATA, category, one_line
from workbench.commands.output import FORMAT, emit


@click.command()
@DATA
@CODEBOOK
@FORMAT
def data(folder: Path, codebook: int | None, style: str) -> None:
    """Check a data folder: sizes, collisions, leakage between splits, popularity baseline.

    DIR: MiniOneRec's layout (train/, valid/, test/, index/) or RecIF parquet files.
    Columns: quantity, value, meaning.
    """
    from recast.lm.datareport import describe
    from recast.lm.dataset import read_any

    with one_line():
        rows = describe(read_any(folder, codebook, category()))
    frame = pl.DataFrame(rows, schema={"quantity": str, "value": pl.Float64, "meaning": str})
    if style != "table":
        emit(frame, style, "")
        return
    shown = frame.with_columns(
        pl.col("value").map_elements(lambda v: f"{v:.0f}" if v == int(v) else f"{v:.4f}", pl.String)
    )
    emit(shown, style, f"What is in {folder.name}?")
    click.echo(
        "Splits follow time, not users: a user of test can be a user of train or valid. RL learns "
        "from 80% of valid's users and tunes on the others."
    )
