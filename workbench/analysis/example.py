"""The runs that a page shows: those of a store, or the packaged example when it is empty."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from workbench.analysis.tuning import mark_tuned
from workbench.plurals import number_of
from workbench.store.contents import Contents, complaints
from workbench.store.runs import Store

EXAMPLE = Path(__file__).parents[1] / "example" / "quick.parquet"
EXAMPLE_COMMAND = "recast run --preset quick --store example && recast store export example FILE"


def packaged_example() -> tuple[pl.DataFrame, str]:
    """The packaged example's runs with `tuned` marked, and a label that says what they are; an
    empty frame where the package has none."""
    if not EXAMPLE.exists():
        return pl.DataFrame(), "no runs yet: recast run --preset quick"
    label = f"packaged example, not your data; regenerate it with: {EXAMPLE_COMMAND}"
    return mark_tuned(pl.read_parquet(EXAMPLE)), label


def load_or_example(root: str | Path | None = None) -> tuple[pl.DataFrame, str]:
    """The runs of a store (default: the folder named by RECAST_STORE, else `runs`), or the
    packaged example when it is empty; with a label that says which."""
    folder = Path(root if root is not None else os.environ.get("RECAST_STORE", "runs"))
    store = Store(folder)
    held = store.contents() if folder.is_dir() else Contents()
    frame = store.parsed(held).collect()
    left_out = complaints(folder, held)
    if len(held.damaged) > 1:
        first = f"{len(held.damaged)} damaged files are left out, such as {held.damaged[0]}"
        told = f"{first}; `recast store check {folder}` names them all and sets them aside"
        left_out = [told, *left_out[len(held.damaged) :]]
    if not frame.is_empty():
        label = f"your store: {folder} ({number_of(frame['run'].n_unique(), 'run')})"
        return mark_tuned(frame), "; ".join([label, *left_out[:3]])
    example, label = packaged_example()
    return example, "; ".join([label, *left_out[:3]])
