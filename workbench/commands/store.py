"""`recast store`: look after the folder of finished runs."""

from __future__ import annotations

import io
from pathlib import Path

import click
import polars as pl

from recast.quoting import plain_line
from workbench.analysis.export import csv_text
from workbench.commands.output import FORMAT, emit, existing_store
from workbench.errors import DiskError, UserError
from workbench.plurals import number_of
from workbench.store.bin import binned, empty, restore
from workbench.store.contents import complaints
from workbench.store.files import replace
from workbench.store.runs import Store


def _kept(path: str) -> Store:
    """A store that may be changed. Raises UserError for a folder that holds no runs/."""
    found = existing_store(path)
    if not (found.root / "runs").is_dir():
        raise UserError(f"store {path!r}: no store; expected a folder that holds runs/")
    return found


@click.group("store")
def store() -> None:
    """Look after the folder of finished runs."""


@store.command()
@click.argument("store_path", metavar="STORE")
@click.argument("target", metavar="FILE")
def export(store_path: str, target: str) -> None:
    """Write every readable run of STORE into one tidy Parquet or CSV FILE."""
    frame = existing_store(store_path).load()
    if frame.is_empty():
        raise UserError(f"store {store_path!r}: holds no readable runs")
    if Path(target).suffix not in (".csv", ".parquet"):
        raise UserError(f"{target}: expected a name that ends in .parquet or .csv")
    if not Path(target).parent.is_dir():
        raise UserError(f"{target}: no such folder {str(Path(target).parent)!r}")
    buffer = io.BytesIO()
    if target.endswith(".csv"):
        buffer.write(csv_text(frame).encode())
    else:
        frame.write_parquet(buffer, compression="zstd", compression_level=19)
    replace(buffer.getvalue(), Path(target))
    click.echo(f"{number_of(frame['run'].n_unique(), 'run')} in {target}")


@store.command()
@click.argument("store_path", metavar="STORE")
@click.option("--quarantine/--no-quarantine", default=True, help="Set damaged runs aside.")
@FORMAT
def check(store_path: str, quarantine: bool, style: str) -> None:
    """Verify every file of STORE; name the damaged ones and set them aside.

    The next run or sweep does the runs again that were set aside. Exit code 1 when any file is
    damaged.
    """
    there = _kept(store_path)
    held = there.checked()
    beside = there.beside()
    faults = (*held.damaged, *beside.damaged)
    moved: dict[Path, Path] = {}
    refused = ""
    if quarantine:
        try:
            moved = there.quarantine(faults)
        except DiskError as problem:
            refused = str(problem)
    places = [_shown(moved.get(fault.path, "")) for fault in faults]
    if style != "table":
        rows = [
            {
                "run": _shown(fault.key),
                "file": _shown(fault.path),
                "fault": _shown(fault.fault),
                "moved_to": place,
            }
            for fault, place in zip(faults, places, strict=True)
        ]
        columns = ["run", "file", "fault", "moved_to"]
        emit(pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String)), style, "")
    else:
        for fault, place in zip(faults, places, strict=True):
            click.echo(_shown(fault) + (f"; moved to {place}" if place else ""))
        for line in complaints(Path(store_path), held)[len(held.damaged) :]:
            click.echo(_shown(line))
        for fault in beside.left:
            click.echo(f"{_shown(fault)}; left as it is")
        click.echo(
            f"{number_of(len(held.good), 'run')} sound, {number_of(len(faults), 'file')} damaged"
        )
    if refused:
        click.echo(f"note: not set aside: {refused}", err=True)
    if faults:
        click.get_current_context().exit(1)


def _shown(text: object) -> str:
    """A name from the store and what is said of it: whoever can write there chose its letters."""
    return plain_line(text, 10_000)


@store.command("bin")
@click.argument("store_path", metavar="STORE")
@click.option("--restore", "batch", default=None, help="Put what was deleted together back.")
@click.option("--empty", "empties", is_flag=True, help="Remove what lies there for good.")
def bin_command(store_path: str, batch: str | None, empties: bool) -> None:
    """What was deleted from STORE: list it, put it back, or remove it for good."""
    root = _kept(store_path).root
    if batch is not None and empties:
        raise UserError("--restore and --empty: expected one of the two")
    if batch is not None:
        click.echo(f"{number_of(restore(root, batch), 'run is', 'runs are')} back in {store_path}")
    elif empties:
        click.echo(f"{number_of(empty(root), 'run')} removed for good")
    else:
        for name, keys in binned(root).items():
            click.echo(f"{name}: {number_of(len(keys), 'run')}")
        there = number_of(sum(map(len, binned(root).values())), "run")
        click.echo(f"{there} in the bin of {store_path}")


@store.command()
@click.argument("store_path", metavar="STORE")
def migrate(store_path: str) -> None:
    """Rewrite runs of older schemas; the old files go to STORE/retired."""
    click.echo(f"{number_of(_kept(store_path).migrate(), 'run')} rewritten in {store_path}")
