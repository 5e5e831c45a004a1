"""What was found on real models, as the app shows it: runs of a store, and saved tables.

`recast lm rl` writes runs into a store. The other `recast lm` commands print tables; saved as CSV
or JSON under `STORE/real/`, they are told apart by their columns. Nothing of one's own: the
packaged example, with the commands that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import polars as pl

from workbench.analysis.summary import summary
from workbench.analysis.tuning import edge
from workbench.real.efficiency import EFFICIENCY
from workbench.spec.metrics import METRICS
from workbench.store.table_files import read_table

TableKind = Literal["scores", "differences", "efficiency"]
COLUMNS: Mapping[TableKind, frozenset[str]] = MappingProxyType(
    {
        "scores": frozenset({"slice", "strategy", "seeds"}),
        "differences": frozenset(
            {"control", "strategy", "metric", "difference", "difference_low", "p_corrected"}
        ),
        "efficiency": frozenset(EFFICIENCY),
    }
)
EXAMPLE = Path(__file__).parents[1] / "example"
_STUDY = (
    'recast lm study DIR --out OUT --strategy sft --strategy "sft averaged" '
    '--strategy "sft decaying" --strategy target_power --strategy "target_power averaged" '
    '--strategy "target_power decaying" --strategy grpo --strategy "grpo averaged" '
    "--strategy recast --strategy add_gt --strategy grpo_sft --lr 3.125e-6 --lr 1.25e-5 "
    "--lr 2.5e-5 --lr 5e-5 --lr 1e-4 --lr 2e-4 --lr 4e-4 --lr 8e-4 --lr 3.2e-3 --device cpu "
    "--format csv"
)
_MODELS = (
    "Amazon Office Products, a causal language model of 2 layers and 64 dimensions, 5 supervised "
    "starts, on a CPU"
)
EXAMPLE_COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "real-scores.csv": _STUDY,
        "real-differences.csv": f"{_STUDY} --show differences",
        "real-efficiency.csv": "recast lm efficiency --group 8 --group 32 --group 128 --batch 8 "
        "--repeats 2 --format csv",
    }
)
EXAMPLE_MADE: Mapping[str, str] = MappingProxyType(
    {
        "real-scores.csv": _MODELS,
        "real-differences.csv": _MODELS,
        "real-efficiency.csv": "the small model, on a CPU",
    }
)
_LARGEST = 5_000_000


@dataclass(frozen=True)
class SavedTable:
    """One table. source: where it comes from, in words; command: what prints it again, "" where
    only its owner knows."""

    kind: TableKind
    table: pl.DataFrame
    source: str
    command: str = ""


def metrics_of(table: pl.DataFrame) -> list[str]:
    """The quality metrics that a table of scores carries, each with an interval's two columns."""
    return [
        name
        for name in METRICS
        if {name, f"{name}_low", f"{name}_high"} <= set(table.columns) and table[name].count()
    ]


def stored_scores(frame: pl.DataFrame) -> list[SavedTable]:
    """A table of scores for each cell of real-model runs in a store's rows (`tuned` marked)."""
    if frame.is_empty():
        return []
    real = frame.filter(pl.col("world").str.starts_with("lm:"))
    found = []
    for (world, cell), rows in real.group_by("world", "cell", maintain_order=True):
        name = str(world).removeprefix("lm:")
        source = f"your store: {name}, G = {rows['group'][0]} ({cell})"
        found.append(SavedTable("scores", _with_edges(summary(rows), rows), source))
    return found


def _with_edges(table: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Scores with `edge`: at which end of the rates that were tried the tuned one lies."""
    grids = dict(rows.group_by("strategy").agg(pl.col("lr").unique()).iter_rows())
    sides = [
        edge(grids[name], lr) if name in grids and lr is not None else ""
        for name, lr in table.select("strategy", "lr").iter_rows()
    ]
    return table.with_columns(edge=pl.Series(sides, dtype=pl.String))


def saved_tables(folder: Path) -> tuple[list[SavedTable], list[str]]:
    """The tables saved in a folder, and one line for each file that is none."""
    found, faults = [], []
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*.json")]):
        try:
            table = _read(path)
            found.append(SavedTable(_kind(table), table, f"your file {path}"))
        except ValueError as problem:
            faults.append(f"{path}: {problem}")
    return found, faults


def packaged() -> list[SavedTable]:
    """The packaged example's tables, for whoever has none yet."""
    return [
        SavedTable(_kind(table), table, source, command)
        for name, command in EXAMPLE_COMMANDS.items()
        if (EXAMPLE / name).exists()
        for table in [_read(EXAMPLE / name)]
        for source in [f"packaged example, not your data: {EXAMPLE_MADE[name]}"]
    ]


def _read(path: Path) -> pl.DataFrame:
    # Tables saved earlier name their p-values after Holm's correction.
    return read_table(path, _LARGEST).rename({"p_holm": "p_corrected"}, strict=False)


def _kind(table: pl.DataFrame) -> TableKind:
    for kind, columns in COLUMNS.items():
        if columns <= set(table.columns) and table.height:
            if kind == "scores" and not metrics_of(table):
                continue
            return kind
    raise ValueError(
        "not a table of scores, differences or efficiency as `recast lm` prints them with "
        "--format csv or json"
    )
