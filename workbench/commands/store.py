"""`recast store`: look after the folder of finished runs."""

from __future__ import annotations

from pathlib import Path

import click

from workbench.spec import SpecError
from workbench.store import Store


@click.group("store")
def store() -> None:
    """Look after the folder of finished runs."""


@store.command()
@click.argument("store_path", metavar="STORE")
@click.argument("target", metavar="FILE")
def export(store_path: str, target: str) -> None:
    """Write every run of STORE into one tidy Parquet or CSV FILE."""
    if not Path(store_path).is_dir():
        raise SpecError(f"store {store_path!r}: no such folder")
    frame = Store(Path(store_path)).load()
    if frame.is_empty():
        raise SpecError(f"store {store_path!r}: holds no runs")
    try:
        if target.endswith(".csv"):
            frame.write_csv(target)
        else:
            frame.write_parquet(target, compression="zstd", compression_level=19)
    except OSError as problem:
        raise SpecError(f"{target}: cannot write ({problem.strerror or problem})") from None
    click.echo(f"{frame['run'].n_unique()} runs in {target}")
